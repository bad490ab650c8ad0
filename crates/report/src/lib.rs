//! Journal to text, graph and the one-file report.
