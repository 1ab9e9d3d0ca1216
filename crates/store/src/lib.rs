//! The store port, its embedded engine and its contract tests.
