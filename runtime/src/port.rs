//! Inputs and outputs that are known when a program is compiled: `kinglet-build` writes them down beside the plan.

use core::marker::PhantomData;

use crate::{Element, Error, Kernels, Session};

macro_rules! port {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name<T> {
            /// Its number.
            pub index: usize,
            /// Dimensions, outermost first.
            pub shape: &'static [usize],
            /// Scale, 1 if it is not quantised: an element stands for `(q − zero_point) · scale`.
            pub scale: f32,
            /// Zero point.
            pub zero_point: i32,
            elements: PhantomData<T>,
        }

        impl<T> $name<T> {
            /// With these properties.
            pub const fn new(index: usize, shape: &'static [usize], scale: f32, zero_point: i32) -> Self {
                $name { index, shape, scale, zero_point, elements: PhantomData }
            }
        }
    };
}

port! {
    /// An input of elements `T`.
    Input
}

port! {
    /// An output of elements `T`.
    Output
}

impl<T: Element> Input<T> {
    /// It in a session, to be written before every run.
    ///
    /// # Errors
    /// As [`Session::input_mut`]: none in a session on the model that it is of.
    pub fn of<'s, K: Kernels + ?Sized>(&self, session: &'s mut Session<'_, K>) -> Result<&'s mut [T], Error> {
        session.input_mut(self.index)
    }
}

impl<T: Element> Output<T> {
    /// It in a session, after a run.
    ///
    /// # Errors
    /// As [`Session::output`]: none in a session on the model that it is of.
    pub fn of<'s, K: Kernels + ?Sized>(&self, session: &'s Session<'_, K>) -> Result<&'s [T], Error> {
        session.output(self.index)
    }
}
