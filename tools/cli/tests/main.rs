//! The tests of the command, one file a subject, in one program: each program would have all of tract in it.

mod audio;
mod commands;
mod common;
mod defaults;
mod device_log;
mod files;
mod hostile;
mod new_firmware;
mod shapes;
