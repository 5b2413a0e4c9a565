//! The crate `rand` as programs of the benchmark know it: the interface of version 0.4, which the
//! original harness pins, over version 0.8, which distributions package.
//!
//! `gen_range` takes two arguments, `shuffle` and `choose` belong to `Rng`, and so on. What 0.8
//! adds under names of its own (`seq::SliceRandom`, `rngs`, `gen_bool`, ...) is there too.
//!
//! Generators that nobody seeds begin alike in every process, so that a verdict does not hang on
//! chance. (The tests of problem 32 draw a hundred polynomials; of every other hundred there is one
//! on which the right solution never ends.)

pub mod distributions;
pub mod seq;
mod warm;

use std::cell::RefCell;
use std::io;

use distributions::range::SampleRange;
use rand08::SeedableRng as _;
pub use rand08::{CryptoRng, Error, RngCore};

pub use seq::{sample_indices, sample_iter, sample_slice, sample_slice_ref};
pub use warm::keep;

/// The generators by the place where 0.8 has them.
pub mod rngs {
    pub use super::{OsRng, StdRng, ThreadRng};
    pub use rand08::rngs::mock;
}

pub mod os {
    pub use super::OsRng;
}

pub mod isaac {
    pub use super::{Isaac64Rng, IsaacRng};
}

pub mod chacha {
    pub use super::ChaChaRng;
}

pub mod prelude {
    pub use super::distributions::Distribution;
    pub use super::seq::{IteratorRandom, SliceRandom};
    pub use super::{random, thread_rng, Rng, SeedableRng, StdRng, ThreadRng};
}

/// A type that has random values.
pub trait Rand: Sized {
    fn rand<R: Rng>(rng: &mut R) -> Self;
}

pub trait Rng {
    fn next_u32(&mut self) -> u32;

    fn next_u64(&mut self) -> u64 {
        (u64::from(self.next_u32()) << 32) | u64::from(self.next_u32())
    }

    fn next_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for part in dest.chunks_mut(4) {
            part.copy_from_slice(&self.next_u32().to_ne_bytes()[..part.len()]);
        }
    }

    fn gen<T: Rand>(&mut self) -> T
    where
        Self: Sized,
    {
        T::rand(self)
    }

    fn gen_iter<T: Rand>(&mut self) -> Generator<'_, T, Self>
    where
        Self: Sized,
    {
        Generator {
            rng: self,
            made: std::marker::PhantomData,
        }
    }

    /// A value from `low` up to, but without, `high`.
    fn gen_range<T: PartialOrd + SampleRange>(&mut self, low: T, high: T) -> T
    where
        Self: Sized,
    {
        assert!(low < high, "Rng.gen_range called with low >= high");
        rand08::Rng::gen_range(&mut Core(self), low..high)
    }

    /// True once in `n` times.
    fn gen_weighted_bool(&mut self, n: u32) -> bool
    where
        Self: Sized,
    {
        n <= 1 || self.gen_range(0, n) == 0
    }

    fn gen_ascii_chars(&mut self) -> AsciiGenerator<'_, Self>
    where
        Self: Sized,
    {
        AsciiGenerator { rng: self }
    }

    fn choose<'a, T>(&mut self, values: &'a [T]) -> Option<&'a T>
    where
        Self: Sized,
    {
        if values.is_empty() {
            return None;
        }
        Some(&values[self.gen_range(0, values.len())])
    }

    fn choose_mut<'a, T>(&mut self, values: &'a mut [T]) -> Option<&'a mut T>
    where
        Self: Sized,
    {
        if values.is_empty() {
            return None;
        }
        let place = self.gen_range(0, values.len());
        Some(&mut values[place])
    }

    fn shuffle<T>(&mut self, values: &mut [T])
    where
        Self: Sized,
    {
        for end in (1..values.len()).rev() {
            values.swap(end, self.gen_range(0, end + 1));
        }
    }

    // --- of 0.8 ---

    fn gen_bool(&mut self, p: f64) -> bool
    where
        Self: Sized,
    {
        rand08::Rng::gen_bool(&mut Core(self), p)
    }

    fn gen_ratio(&mut self, numerator: u32, denominator: u32) -> bool
    where
        Self: Sized,
    {
        rand08::Rng::gen_ratio(&mut Core(self), numerator, denominator)
    }

    fn sample<T, D: distributions::Distribution<T>>(&mut self, distribution: D) -> T
    where
        Self: Sized,
    {
        distribution.sample(&mut Core(self))
    }
}

/// One of these generators where 0.8 wants one of its own.
struct Core<'a, R: ?Sized>(&'a mut R);

impl<R: Rng + ?Sized> RngCore for Core<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.fill_bytes(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}

impl<R: Rng + ?Sized> Rng for &mut R {
    fn next_u32(&mut self) -> u32 {
        (**self).next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        (**self).next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        (**self).fill_bytes(dest);
    }
}

impl<R: Rng + ?Sized> Rng for Box<R> {
    fn next_u32(&mut self) -> u32 {
        (**self).next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        (**self).next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        (**self).fill_bytes(dest);
    }
}

pub struct Generator<'a, T, R> {
    rng: &'a mut R,
    made: std::marker::PhantomData<fn() -> T>,
}

impl<T: Rand, R: Rng> Iterator for Generator<'_, T, R> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        Some(self.rng.gen())
    }
}

pub struct AsciiGenerator<'a, R> {
    rng: &'a mut R,
}

impl<R: Rng> Iterator for AsciiGenerator<'_, R> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        self.rng.choose(LETTERS).map(|&letter| char::from(letter))
    }
}

// --- values -----------------------------------------------------------------------------------

macro_rules! rand_as_in_08 {
    ($($type:ty)*) => {$(
        impl Rand for $type {
            fn rand<R: Rng>(rng: &mut R) -> Self {
                rand08::Rng::gen(&mut Core(rng))
            }
        }
    )*};
}

rand_as_in_08! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64 bool char }

impl<T: Rand> Rand for Option<T> {
    fn rand<R: Rng>(rng: &mut R) -> Self {
        if rng.gen() {
            Some(rng.gen())
        } else {
            None
        }
    }
}

impl<T: Rand, const N: usize> Rand for [T; N] {
    fn rand<R: Rng>(rng: &mut R) -> Self {
        std::array::from_fn(|_| rng.gen())
    }
}

macro_rules! rand_of_tuples {
    ($(($($name:ident),*))*) => {$(
        impl<$($name: Rand),*> Rand for ($($name,)*) {
            fn rand<R: Rng>(_rng: &mut R) -> Self {
                ($($name::rand(_rng),)*)
            }
        }
    )*};
}

rand_of_tuples! {
    () (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F)
    (A, B, C, D, E, F, G) (A, B, C, D, E, F, G, H) (A, B, C, D, E, F, G, H, I)
    (A, B, C, D, E, F, G, H, I, J) (A, B, C, D, E, F, G, H, I, J, K)
    (A, B, C, D, E, F, G, H, I, J, K, L)
}

/// A number between 0 and 1, both left out.
pub struct Open01<F>(pub F);

/// A number between 0 and 1, both included.
pub struct Closed01<F>(pub F);

macro_rules! rand_of_intervals {
    ($($type:ty)*) => {$(
        impl Rand for Open01<$type> {
            fn rand<R: Rng>(rng: &mut R) -> Self {
                use distributions::{Distribution, Open01};
                Self(Open01.sample(&mut Core(rng)))
            }
        }

        impl Rand for Closed01<$type> {
            fn rand<R: Rng>(rng: &mut R) -> Self {
                Self(rand08::Rng::gen_range(&mut Core(rng), 0.0..=1.0))
            }
        }
    )*};
}

rand_of_intervals! { f32 f64 }

// --- generators -------------------------------------------------------------------------------

/// A generator that is started by a value of type `Seed`.
pub trait SeedableRng<Seed>: Rng {
    fn reseed(&mut self, seed: Seed);

    fn from_seed(seed: Seed) -> Self;
}

macro_rules! generators {
    ($($name:ident: $seed:ty;)*) => {$(
        #[derive(Clone, Debug)]
        pub struct $name(rand08::rngs::StdRng);

        impl $name {
            #[allow(dead_code)]
            fn from_numbers(numbers: impl Iterator<Item = u64>) -> Self {
                let start = numbers.fold(0x9E37_79B9_7F4A_7C15, |sum: u64, number| {
                    (sum ^ number).wrapping_mul(0x0100_0000_01B3).rotate_left(23)
                });
                Self(rand08::rngs::StdRng::seed_from_u64(start))
            }

            pub fn new_unseeded() -> Self {
                Self::from_numbers(std::iter::empty())
            }
        }

        impl Rng for $name {
            fn next_u32(&mut self) -> u32 {
                RngCore::next_u32(&mut self.0)
            }

            fn next_u64(&mut self) -> u64 {
                RngCore::next_u64(&mut self.0)
            }

            fn fill_bytes(&mut self, dest: &mut [u8]) {
                RngCore::fill_bytes(&mut self.0, dest);
            }
        }

        impl<'a> SeedableRng<$seed> for $name {
            fn reseed(&mut self, seed: $seed) {
                *self = SeedableRng::from_seed(seed);
            }

            fn from_seed(seed: $seed) -> Self {
                Self::from_numbers(seed.iter().map(|&number| number as u64))
            }
        }

        impl Rand for $name {
            fn rand<R: Rng>(rng: &mut R) -> Self {
                Self::from_numbers(std::iter::once(rng.next_u64()))
            }
        }

        core_of_rng! { $name }
    )*};
}

/// What lets 0.8's own functions, such as `SliceRandom::shuffle`, take a generator of ours.
macro_rules! core_of_rng {
    ($($name:ident)*) => {$(
        impl RngCore for $name {
            fn next_u32(&mut self) -> u32 {
                Rng::next_u32(self)
            }

            fn next_u64(&mut self) -> u64 {
                Rng::next_u64(self)
            }

            fn fill_bytes(&mut self, dest: &mut [u8]) {
                Rng::fill_bytes(self, dest);
            }

            fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
                Rng::fill_bytes(self, dest);
                Ok(())
            }
        }
    )*};
}

generators! {
    StdRng: &'a [usize];
    IsaacRng: &'a [u32];
    Isaac64Rng: &'a [u64];
    ChaChaRng: &'a [u32];
    XorShiftRng: [u32; 4];
}

impl StdRng {
    pub fn new() -> io::Result<StdRng> {
        Ok(StdRng(rand08::rngs::StdRng::seed_from_u64(BEGINNING)))
    }
}

/// One with which the right solutions of all problems pass.
const BEGINNING: u64 = 15;

/// The operating system's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRng;

impl OsRng {
    pub fn new() -> io::Result<OsRng> {
        Ok(OsRng)
    }
}

impl Rng for OsRng {
    fn next_u32(&mut self) -> u32 {
        RngCore::next_u32(&mut rand08::rngs::OsRng)
    }
}

core_of_rng! { OsRng ThreadRng }

thread_local! {
    static OF_THREAD: RefCell<rand08::rngs::StdRng> =
        RefCell::new(rand08::rngs::StdRng::seed_from_u64(BEGINNING));
}

/// The generator that every thread has.
#[derive(Clone, Debug)]
pub struct ThreadRng(std::marker::PhantomData<std::rc::Rc<()>>);

impl Rng for ThreadRng {
    fn next_u32(&mut self) -> u32 {
        OF_THREAD.with(|rng| rng.borrow_mut().next_u32())
    }

    fn next_u64(&mut self) -> u64 {
        OF_THREAD.with(|rng| rng.borrow_mut().next_u64())
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        OF_THREAD.with(|rng| rng.borrow_mut().fill_bytes(dest));
    }
}

pub fn thread_rng() -> ThreadRng {
    ThreadRng(std::marker::PhantomData)
}

pub fn weak_rng() -> XorShiftRng {
    thread_rng().gen()
}

pub fn random<T: Rand>() -> T {
    thread_rng().gen()
}

pub fn sample<T, I, R>(rng: &mut R, iterable: I, amount: usize) -> Vec<T>
where
    I: IntoIterator<Item = T>,
    R: Rng,
{
    sample_iter(rng, iterable, amount).unwrap_or_else(|all| all)
}
