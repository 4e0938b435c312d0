//! Which channels are one: what goes through a node without touching others is dropped on both of its sides or on none.

use crate::graph::TensorId;

/// The channels of all tensors that may lose some, in classes that are kept or dropped as one.
pub(super) struct Fates {
    /// By tensor, where its channels begin and how many it has.
    tensors: Vec<Option<(usize, usize)>>,
    /// By channel, another one of its class, or itself; the class is named by the one that names itself.
    parents: Vec<u32>,
    /// By class, whether it is read.
    live: Vec<bool>,
}

impl Fates {
    /// No channels of so many tensors.
    pub(super) fn new(tensors: usize) -> Self {
        Fates { tensors: vec![None; tensors], parents: Vec::new(), live: Vec::new() }
    }

    /// Takes in the channels of a tensor, each a class of its own.
    pub(super) fn add(&mut self, t: TensorId, channels: usize) {
        let first = self.parents.len();
        self.tensors[t] = Some((first, channels));
        self.parents.extend((first..first + channels).map(|c| c as u32));
        self.live.resize(first + channels, false);
    }

    /// How many channels there are, dead or alive.
    pub(super) fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether the channels of a tensor were taken in.
    pub(super) fn holds(&self, t: TensorId) -> bool {
        self.tensors[t].is_some()
    }

    /// The class of a channel of a tensor that was taken in.
    pub(super) fn class(&mut self, t: TensorId, channel: usize) -> usize {
        let (first, _) = self.tensors[t].expect("its channels were taken in");
        let mut c = first + channel;
        while self.parents[c] as usize != c {
            // Every other channel on the way is brought nearer, so that ways stay short.
            self.parents[c] = self.parents[self.parents[c] as usize];
            c = self.parents[c] as usize;
        }
        c
    }

    /// Makes two channels one class. Nothing is known to be alive yet.
    pub(super) fn join(&mut self, (a, i): (TensorId, usize), (b, j): (TensorId, usize)) {
        let (a, b) = (self.class(a, i), self.class(b, j));
        self.parents[a.max(b)] = a.min(b) as u32;
    }

    /// Marks a channel as read; the class, if that is new.
    pub(super) fn revive(&mut self, t: TensorId, channel: usize) -> Option<usize> {
        let class = self.class(t, channel);
        (!std::mem::replace(&mut self.live[class], true)).then_some(class)
    }

    /// Whether a channel is read; those of tensors that were not taken in are.
    pub(super) fn lives(&mut self, t: TensorId, channel: usize) -> bool {
        !self.holds(t) || {
            let class = self.class(t, channel);
            self.live[class]
        }
    }

    /// The channels of a tensor that are left, if some are not.
    pub(super) fn left(&mut self, t: TensorId) -> Option<Vec<usize>> {
        let (_, n) = self.tensors[t]?;
        let left: Vec<usize> = (0..n).filter(|&c| self.lives(t, c)).collect();
        (left.len() < n).then_some(left)
    }
}
