//! File trees and layers: walk, ignore, select, copy, diff, tar, index.
