//! Manifests: files of YAML and JSON, the objects in them, and the pods that these ask for.

mod defaults;
pub mod evaluate;
mod exceptions;
mod json;
mod lines;
pub mod node;
pub mod objects;
pub mod read;
mod yaml;
