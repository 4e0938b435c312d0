//! The stack that a run needs with the portable kernels: every small model and the models of the repository run in threads with
//! so little of it that more would end the process.

use kinglet::{Model, Reference, Session, Target};
use kinglet_compiler::{Options, compile, import};
use kinglet_models::glyphs;
use kinglet_tests::hostile::plan::planned;
use kinglet_tests::{Aligned, small_onnx};

/// Bytes of stack of a thread, what the standard library takes for itself included, and the least that a thread here can have.
const STACK: usize = 16 * 1024;

#[test]
fn runs_need_little_stack() {
    let mut plans: Vec<(&str, Vec<u8>)> =
        small_onnx::all().iter().map(|(name, model)| (*name, planned(name, model, Target::Generic))).collect();
    for (name, onnx) in [("glyphs f32", glyphs::F32), ("glyphs int8", glyphs::INT8)] {
        let options = Options { dims: [("batch".to_string(), 1)].into(), ..Options::default() };
        let graph = import(onnx, None, &options).expect("imports");
        plans.push((name, compile(graph, &options).expect("compiles").kgl));
    }
    for (name, kgl) in plans {
        println!("{name}");
        let file = Aligned::copy(&kgl);
        let model = Model::load(file.as_ref()).expect("valid");
        let mut arena = Aligned::zeroed(model.arena_bytes());
        std::thread::scope(|s| {
            let run = || {
                let mut session = Session::new(model, arena.as_mut(), &Reference).expect("the arena is as asked");
                // An index out of range is an error of the data, which is zero here.
                let _ = session.run();
            };
            std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(s, run)
                .expect("a thread")
                .join()
                .expect("no panic");
        });
    }
}
