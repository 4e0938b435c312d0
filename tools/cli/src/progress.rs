//! Signs of life on a terminal, and none anywhere else.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A spinner or a bar on standard error, if that is a terminal. It disappears when dropped.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// A spinner that shows the stage of work of unknown length.
    pub fn spinner() -> Self {
        Progress::start("{spinner} {msg} {elapsed}", ProgressBar::new_spinner)
    }

    /// A bar for `total` pieces of work.
    pub fn bar(total: u64, what: &'static str) -> Self {
        let progress = Progress::start("{msg} {bar:40} {pos}/{len} {elapsed}", || ProgressBar::new(total));
        progress.stage(what);
        progress
    }

    fn start(style: &str, bar: impl FnOnce() -> ProgressBar) -> Self {
        if !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = bar();
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(Some(bar))
    }

    /// Says what is going on now.
    pub fn stage(&self, name: &'static str) {
        if let Some(bar) = &self.0 {
            bar.set_message(name);
        }
    }

    /// One more piece of work is done.
    pub fn tick(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
