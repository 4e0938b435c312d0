//! The model that the build script has compiled, and what it wants to hear.
use kinglet_audio::LogMelConfig;

include!(concat!(env!("OUT_DIR"), "/keywords.rs"));
include!(concat!(env!("OUT_DIR"), "/front_end.rs"));
