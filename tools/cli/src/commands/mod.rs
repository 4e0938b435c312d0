//! One file a command.

pub mod bench;
pub mod convert;
pub mod inspect;
pub mod new_firmware;
pub mod profile;
pub mod run;
pub mod verify;
pub mod zoo;
