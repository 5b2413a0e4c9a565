//! Distributions, as in 0.4; and those of 0.8 under their names.

pub use self::range::Range;
pub use rand08::distributions::{
    Alphanumeric, Bernoulli, Distribution, Open01, OpenClosed01, Standard, Uniform, WeightedIndex,
};

use crate::{Core, Rand, Rng};

/// Something to draw from that may change by it.
pub trait Sample<Support> {
    fn sample<R: Rng>(&mut self, rng: &mut R) -> Support;
}

pub trait IndependentSample<Support>: Sample<Support> {
    fn ind_sample<R: Rng>(&self, rng: &mut R) -> Support;
}

pub mod range {
    use super::{Core, IndependentSample, Rng, Sample};
    use rand08::distributions::uniform::{SampleUniform, UniformSampler};

    pub trait SampleRange: SampleUniform {}

    impl<T: SampleUniform> SampleRange for T {}

    /// The values from `low` up to, but without, `high`.
    #[derive(Clone, Copy, Debug)]
    pub struct Range<X: SampleRange>(X::Sampler);

    impl<X: SampleRange + PartialOrd> Range<X> {
        pub fn new(low: X, high: X) -> Range<X> {
            assert!(low < high, "Range::new called with `low >= high`");
            Range(X::Sampler::new(low, high))
        }
    }

    impl<X: SampleRange> Sample<X> for Range<X> {
        fn sample<R: Rng>(&mut self, rng: &mut R) -> X {
            self.ind_sample(rng)
        }
    }

    impl<X: SampleRange> IndependentSample<X> for Range<X> {
        fn ind_sample<R: Rng>(&self, rng: &mut R) -> X {
            self.0.sample(&mut Core(rng))
        }
    }
}

/// Any value of a type.
#[derive(Clone, Copy, Debug)]
pub struct RandSample<T>(std::marker::PhantomData<T>);

impl<T> RandSample<T> {
    pub fn new() -> RandSample<T> {
        RandSample(std::marker::PhantomData)
    }
}

impl<T> Default for RandSample<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Rand> Sample<T> for RandSample<T> {
    fn sample<R: Rng>(&mut self, rng: &mut R) -> T {
        rng.gen()
    }
}

impl<T: Rand> IndependentSample<T> for RandSample<T> {
    fn ind_sample<R: Rng>(&self, rng: &mut R) -> T {
        rng.gen()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Weighted<T> {
    pub weight: u32,
    pub item: T,
}

/// Items that come as often as they weigh.
pub struct WeightedChoice<'a, T: 'a> {
    items: &'a mut [Weighted<T>],
    total: u32,
}

impl<'a, T: Clone> WeightedChoice<'a, T> {
    pub fn new(items: &'a mut [Weighted<T>]) -> WeightedChoice<'a, T> {
        let total = items.iter().map(|one| one.weight).sum();
        assert!(
            total > 0,
            "WeightedChoice::new called with a total weight of 0"
        );
        WeightedChoice { items, total }
    }
}

impl<T: Clone> Sample<T> for WeightedChoice<'_, T> {
    fn sample<R: Rng>(&mut self, rng: &mut R) -> T {
        self.ind_sample(rng)
    }
}

impl<T: Clone> IndependentSample<T> for WeightedChoice<'_, T> {
    fn ind_sample<R: Rng>(&self, rng: &mut R) -> T {
        let mut left = rng.gen_range(0, self.total);
        for one in &*self.items {
            if left < one.weight {
                return one.item.clone();
            }
            left -= one.weight;
        }
        unreachable!("the weights add up to the total")
    }
}
