//! Slots that are reused, with generations by which a stale key is recognised.

/// A slot and the generation that it had when the key was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The key as one number, for whoever has to store it as such; never 0.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Which slot it is.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }

    /// The inverse of `to_bits`.
    pub fn from_bits(bits: u64) -> Self {
        Key { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[cfg(test)]
impl Key {
    pub(crate) const TEST: Self = Key { index: 0, generation: 1 };
}

struct Slot<T> {
    generation: u32,
    live: bool,
    /// Boxed, so that growing moves pointers only. What was removed stays here, to be made into the next one.
    value: Box<T>,
}

/// A bounded table of `T`. The slot freed last is used first: its memory is likely still cached.
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len_max: usize,
}

impl<T> Slab<T> {
    /// An empty slab for at most `len_max` values.
    pub fn new(len_max: usize) -> Self {
        Slab { slots: Vec::new(), free: Vec::new(), len_max }
    }

    /// Adds a value: `renew` turns a removed one into it, `make` makes it where there is none. `None` when full.
    pub fn insert(&mut self, make: impl FnOnce() -> Option<T>, renew: impl FnOnce(&mut T)) -> Option<Key> {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.live = true;
            renew(&mut slot.value);
            return Some(Key { index, generation: slot.generation });
        }
        if self.slots.len() == self.len_max {
            return None;
        }
        let mut value = Box::new(make()?);
        renew(&mut value);
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 1, live: true, value });
        Some(Key { index, generation: 1 })
    }

    /// Ends a value; its key is stale from now on.
    pub fn remove(&mut self, key: Key) {
        if self.get(key).is_some() {
            let slot = &mut self.slots[key.index as usize];
            slot.live = false;
            slot.generation = slot.generation.wrapping_add(1).max(1);
            self.free.push(key.index);
        }
    }

    /// The value, unless the key is stale.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        (slot.live && slot.generation == key.generation).then_some(&*slot.value)
    }

    /// The value, unless the key is stale.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        (slot.live && slot.generation == key.generation).then_some(&mut *slot.value)
    }

    /// How many values live here.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The live values.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.live);
        live.map(|(index, slot)| (Key { index: index as u32, generation: slot.generation }, &*slot.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Random inserts and removals against a HashMap.
        #[test]
        fn agrees_with_a_map(operations in proptest::collection::vec((any::<bool>(), any::<usize>()), 0..200)) {
            let mut slab = Slab::new(16);
            let mut model: HashMap<Key, usize> = HashMap::new();
            let mut dead = Vec::new();
            for (insert, value) in operations {
                if insert {
                    let key = slab.insert(|| Some(0), |slot| *slot = value);
                    prop_assert_eq!(key.is_none(), model.len() == 16);
                    if let Some(key) = key {
                        prop_assert!(model.insert(key, value).is_none());
                    }
                } else if let Some(&key) = model.keys().nth(value % model.len().max(1)) {
                    slab.remove(key);
                    model.remove(&key);
                    dead.push(key);
                }
                prop_assert_eq!(slab.len(), model.len());
                prop_assert!(model.iter().all(|(&key, value)| slab.get(key) == Some(value)));
                prop_assert!(model.keys().all(|&key| key.to_bits() != 0 && Key::from_bits(key.to_bits()) == key));
                prop_assert!(dead.iter().all(|&key| slab.get(key).is_none()));
            }
        }
    }
}
