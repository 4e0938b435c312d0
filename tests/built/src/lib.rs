//! Models that a build script compiles, run as a program runs them: nothing is known of them but what is in their modules.

include!(concat!(env!("OUT_DIR"), "/glyphs.rs"));
include!(concat!(env!("OUT_DIR"), "/quantized.rs"));
include!(concat!(env!("OUT_DIR"), "/again.rs"));
include!(concat!(env!("OUT_DIR"), "/split.rs"));

#[cfg(test)]
mod tests {
    use super::*;
    use kinglet::kernels::{Only, OpSet};
    use kinglet::{Arena, Error, Model, Ram, Reference, StepKind, Target};

    /// The scores of a picture.
    fn scores(picture: &[f32]) -> Vec<f32> {
        let kernels = Only::<_, { glyphs::OPS }>(Reference);
        let mut arena = Box::new(Arena::<{ glyphs::ARENA }>::new());
        let mut session = glyphs::session(&mut arena.0, &kernels).expect("it is made for it");
        glyphs::inputs::IMAGE.of(&mut session).expect("there is one").copy_from_slice(picture);
        session.run().expect("it runs");
        glyphs::outputs::LOGITS.of(&session).expect("there is one").to_vec()
    }

    fn picture() -> Vec<f32> {
        let n: usize = glyphs::inputs::IMAGE.shape.iter().product();
        (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn a_module_is_all_that_a_program_needs() {
        let scores = scores(&picture());
        assert_eq!(scores.len(), glyphs::outputs::LOGITS.shape.iter().product());
        assert!(scores.iter().any(|&s| s != scores[0]));
    }

    #[test]
    fn integers_go_in_and_out_with_their_scales() {
        let (x, y) = (quantized::inputs::IMAGE, quantized::outputs::LOGITS);
        let kernels = Only::<_, { quantized::OPS }>(Reference);
        let mut arena = Box::new(Arena::<{ quantized::ARENA }>::new());
        let mut session = quantized::session(&mut arena.0, &kernels).expect("it is made for it");
        let q = |v: f32| kinglet::quant::quantize(v, x.scale, x.zero_point, -128, 127) as i8;
        for (to, v) in x.of(&mut session).expect("there is one").iter_mut().zip(picture()) {
            *to = q(v);
        }
        session.run().expect("it runs");
        let got: Vec<f32> = y
            .of(&session)
            .expect("there is one")
            .iter()
            .map(|&q| (f32::from(q) - y.zero_point as f32) * y.scale)
            .collect();
        assert_eq!(got, scores(&picture()));
    }

    #[test]
    fn a_module_may_need_two_memories() {
        const { assert!(split::ARENA <= 16 << 10 && split::SLOW > 0 && glyphs::SLOW == 0) };
        let kernels = Only::<_, { split::OPS }>(Reference);
        let mut arena = Box::new(Arena::<{ split::ARENA }>::new());
        let refused = split::session(&mut arena.0, &kernels).err();
        assert!(matches!(refused, Some(Error::SlowSize { .. })), "{refused:?}");
        let mut slow = Box::new(Arena::<{ split::SLOW }>::new());
        let ram = Ram { arena: &mut arena.0, slow: &mut slow.0 };
        let mut session = split::session(ram, &kernels).expect("it is made for it");
        split::inputs::IMAGE.of(&mut session).expect("there is one").copy_from_slice(&picture());
        session.run().expect("it runs");
        assert_eq!(split::outputs::LOGITS.of(&session).expect("there is one").to_vec(), scores(&picture()));
    }

    #[test]
    fn a_module_says_what_the_plan_says() {
        let model: Model<'static> = glyphs::model().expect("it is whole");
        assert_eq!((model.arena_bytes(), model.target()), (glyphs::ARENA, glyphs::TARGET));
        assert_eq!(OpSet::of_model(&model).bits(), glyphs::OPS);
        assert_eq!((again::OPS, again::ARENA, again::TARGET), (glyphs::OPS, glyphs::ARENA, glyphs::TARGET));
    }

    #[test]
    fn other_kernels_are_refused() {
        const FEW: u128 = OpSet::of(&[StepKind::Pool]).bits();
        let mut arena = Box::new(Arena::<{ glyphs::ARENA }>::new());
        let refused = glyphs::session(&mut arena.0, &Only::<_, FEW>(Reference)).err();
        assert!(matches!(refused, Some(Error::Kernels { target: Target::Generic })), "{refused:?}");
        let refused = glyphs::session(&mut arena.0[64..], &Reference).err();
        assert!(matches!(refused, Some(Error::ArenaSize { .. })), "{refused:?}");
    }
}
