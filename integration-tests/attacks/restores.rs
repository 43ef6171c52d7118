//! Checkpoints whose image restores something else than their config.json says.
