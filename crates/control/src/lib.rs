//! The one path of every change: decide, commit, apply, tell.
