//! Runs one process in a root file system; knows nothing of builds.
