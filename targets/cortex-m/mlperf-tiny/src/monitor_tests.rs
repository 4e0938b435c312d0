use super::*;
use crate::error::Failure;
use std::string::{String, ToString};
use std::vec::Vec;

/// Counts calls.
struct Steps(u64);

impl Clock for Steps {
    fn microseconds(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// Its results are its input of four bytes, in sixteenths. It fails where the first one is 0xff.
#[derive(Default)]
struct Four {
    input: [u8; 4],
    prepared: u32,
    runs: u32,
}

impl Benchmark for Four {
    fn model(&self) -> &'static str {
        "four"
    }
    fn input(&mut self) -> &mut [u8] {
        &mut self.input
    }
    fn prepare(&mut self) -> Result<(), Failure> {
        self.prepared += 1;
        Ok(())
    }
    fn run(&mut self) -> Result<(), Failure> {
        self.runs += 1;
        if self.input[0] == 0xff { Err(Failure::Runtime(1234)) } else { Ok(()) }
    }
    fn result(&self, i: usize) -> Result<Option<f32>, Failure> {
        Ok(self.input.get(i).map(|&b| f32::from(b) / 16.0))
    }
}

fn monitor() -> Monitor<Steps, Four> {
    Monitor::new(Steps(0), Four::default())
}

/// What it answers, without the ends of lines and the last line, which is always the same.
fn ask(monitor: &mut Monitor<Steps, Four>, bytes: impl AsRef<[u8]>) -> Vec<String> {
    let mut port = Vec::new();
    bytes.as_ref().iter().for_each(|&b| monitor.receive(b, &mut port).expect("a vector takes all"));
    let answer = String::from_utf8(port).expect("answers are ASCII");
    let answer = answer.strip_suffix("m-ready\r\n").expect("every answer ends so");
    answer.split_terminator("\r\n").map(str::to_string).collect()
}

#[test]
fn it_says_that_it_is_there() {
    let mut port = Vec::new();
    monitor().start(&mut port).expect("a vector takes all");
    assert_eq!(port, b"m-timestamp-mode-performance\r\nm-lap-us-1\r\nm-init-done\r\nm-ready\r\n");
}

#[test]
fn it_says_who_it_is() {
    let m = &mut monitor();
    assert_eq!(ask(m, "name%"), ["m-name-dut-[kinglet]"]);
    assert_eq!(ask(m, "profile%"), ["m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[four]"]);
    assert_eq!(ask(m, "timestamp%"), ["m-lap-us-1"]);
    assert!(ask(m, "%").is_empty());
    let help = ask(m, "help%");
    assert!(help.len() == 9 && help.iter().all(|line| line.is_ascii()));
}

#[test]
fn an_input_is_loaded_and_run() {
    let m = &mut monitor();
    assert_eq!(ask(m, "db load 4%"), ["m-[Expecting 4 bytes]"]);
    assert!(ask(m, "db 0008%").is_empty());
    assert_eq!(ask(m, "db 10Fe%"), ["m-load-done"]);
    assert_eq!(ask(m, "db print%"), ["m-buffer-00-08-10-fe"]);
    assert_eq!(ask(m, "db print 2 1%"), ["m-buffer-08-10"]);
    assert!(ask(m, "db print 9 9%").is_empty());
    let results = "m-results-[0.000,0.500,1.000,15.875]";
    // The clock is asked after each of the five runs.
    let expected =
        ["m-warmup-start-2", "m-warmup-done", "m-infer-start-3", "m-lap-us-3", "m-lap-us-7", "m-infer-done", results];
    assert_eq!(ask(m, "infer 3 2%"), expected);
    assert_eq!((m.state.benchmark.prepared, m.state.benchmark.runs), (1, 5));
    assert_eq!(ask(m, "results%"), [results]);
    assert_eq!(ask(m, "infer%")[0], "m-warmup-start-10");
    assert_eq!(ask(m, "db load 4%"), ["m-[Expecting 4 bytes]"]);
    assert_eq!(ask(m, "results%"), ["e-[Nothing has run on this input]"]);
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let m = &mut monitor();
    assert_eq!(ask(m, "db 00%"), ["e-[Bytes without db load]"]);
    assert_eq!(ask(m, "infer 1 0%"), ["e-[The input has 0 bytes, not 4]"]);
    assert_eq!(ask(m, "results%"), ["e-[Nothing has run on this input]"]);
    assert_eq!(ask(m, "db load 5%"), ["e-[An input has 4 bytes, not 5]"]);
    ask(m, "db load 4%");
    assert_eq!(ask(m, "db 0102%"), [""; 0]);
    assert_eq!(ask(m, "db 0304%"), ["m-load-done"]);
    assert_eq!(ask(m, "db 05%"), ["e-[The load has 0 bytes, not 1 more]"]);
    ask(m, "db load 4%");
    ask(m, "db 0a0b0c%");
    assert_eq!(ask(m, "db 0d0e%"), ["e-[The load has 1 bytes, not 2 more]"]);
    assert_eq!(ask(m, "db 0x%"), ["e-[No hexadecimal digit: x]"]);
    assert_eq!(ask(m, "infer 1 0%"), ["e-[The input has 3 bytes, not 4]"]);
    assert_eq!(ask(m, "db 0d%"), ["m-load-done"]);
    assert_eq!(ask(m, "db print%"), ["m-buffer-0a-0b-0c-0d"]);
    let long = std::format!("db {}%", "00".repeat(100));
    assert_eq!(ask(m, long), ["e-[The command is longer than 128 bytes]"]);
    assert_eq!(ask(m, b"\xff\0[]%"), ["e-[Unknown command: ????]"]);
    m.lose();
    assert_eq!(ask(m, "name%"), ["e-[The port has lost bytes of the command]"]);
    assert_eq!(ask(m, "name%"), ["m-name-dut-[kinglet]"]);
}

#[test]
fn a_failed_run_has_no_results() {
    let m = &mut monitor();
    ask(m, "db load 4%");
    ask(m, "db ff000000%");
    let answer = ask(m, "infer 2 0%");
    assert_eq!(answer.last().map(String::as_str), Some("e-[The run failed with error 1234]"));
    assert_eq!(m.state.benchmark.runs, 1);
    assert_eq!(ask(m, "results%"), ["e-[Nothing has run on this input]"]);
}

/// Whatever comes, every command gets an answer of whole lines.
#[test]
fn noise_is_answered() {
    let m = &mut monitor();
    let mut seed = 1u32;
    for _ in 0..2000 {
        let mut bytes = Vec::new();
        for _ in 0..seed >> 20 & 255 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            const LETTERS: &[u8] = b"db load 4 infer1 0print9afresults\xff\0";
            bytes.push(LETTERS[(seed >> 16) as usize % LETTERS.len()]);
        }
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.push(b'%');
        ask(m, bytes);
    }
}
