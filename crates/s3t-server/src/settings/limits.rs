//! The bounds of settings that are times.

/// The longest time that a setting in seconds takes: a day.
pub(super) const MAX_SECONDS: f64 = 86_400.0;

/// The shortest and the longest lease of a follower in seconds.
pub(super) const MIN_LEASE: f64 = 0.5;
pub(super) const MAX_LEASE: f64 = 3600.0;
