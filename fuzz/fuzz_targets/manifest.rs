//! Whatever a manifest or the settings say: a complaint with a place, never a panic.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use postroad::campaign::manifest::Manifest;
use postroad::config::Node;

fuzz_target!(|text: &str| {
    let _ = Manifest::parse(Path::new("campaign.toml"), text);
    let _ = Node::parse(Path::new("postroad.toml"), text);
});
