//! The machine: its files, its processes, and the containers that run on it, whoever started them.

pub mod containers;
pub mod distribution;
pub mod elf;
pub(crate) mod exchange;
pub mod host;
pub(crate) mod live_root;
pub mod openrc;
pub mod places;
pub mod procfs;
pub mod recognize;
pub mod root;
pub mod run;
pub mod selinux;
pub mod service;
pub mod stdin;
pub mod strangers;
pub mod systemd;
