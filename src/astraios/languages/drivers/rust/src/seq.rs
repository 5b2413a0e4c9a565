//! Choosing from sequences, as in 0.4; and the traits of 0.8.

pub use rand08::seq::{IteratorRandom, SliceRandom};

use crate::Rng;

/// `amount` of the values, or all of them as an error if there are fewer.
pub fn sample_iter<T, I, R>(rng: &mut R, iterable: I, amount: usize) -> Result<Vec<T>, Vec<T>>
where
    I: IntoIterator<Item = T>,
    R: Rng,
{
    let mut values = iterable.into_iter();
    let mut chosen: Vec<T> = values.by_ref().take(amount).collect();
    if chosen.len() < amount {
        return Err(chosen);
    }
    for (n, value) in values.enumerate() {
        let place = rng.gen_range(0, amount + n + 1);
        if let Some(old) = chosen.get_mut(place) {
            *old = value;
        }
    }
    Ok(chosen)
}

pub fn sample_slice<R: Rng, T: Clone>(rng: &mut R, slice: &[T], amount: usize) -> Vec<T> {
    sample_slice_ref(rng, slice, amount)
        .into_iter()
        .cloned()
        .collect()
}

pub fn sample_slice_ref<'a, R: Rng, T>(rng: &mut R, slice: &'a [T], amount: usize) -> Vec<&'a T> {
    let places = sample_indices(rng, slice.len(), amount);
    places.into_iter().map(|place| &slice[place]).collect()
}

pub fn sample_indices<R: Rng>(rng: &mut R, length: usize, amount: usize) -> Vec<usize> {
    assert!(amount <= length, "amount must be at most length");
    let mut places: Vec<usize> = (0..length).collect();
    for n in 0..amount {
        places.swap(n, rng.gen_range(n, length));
    }
    places.truncate(amount);
    places
}
