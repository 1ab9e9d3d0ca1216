//! Slots with generations: an id of something that has gone is recognised as stale.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub slot: u32,
    pub generation: u32,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub fn new() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, value: T) -> Id {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            entry.1 = Some(value);
            return Id { slot, generation: entry.0 };
        }
        self.slots.push((1, Some(value)));
        Id { slot: (self.slots.len() - 1) as u32, generation: 1 }
    }

    pub fn remove(&mut self, id: Id) -> Option<T> {
        let entry = self.slots.get_mut(id.slot as usize).filter(|entry| entry.0 == id.generation)?;
        let value = entry.1.take()?;
        entry.0 = entry.0.wrapping_add(1);
        self.free.push(id.slot);
        Some(value)
    }

    pub fn get(&self, id: Id) -> Option<&T> {
        self.slots.get(id.slot as usize).filter(|entry| entry.0 == id.generation)?.1.as_ref()
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.slots.get_mut(id.slot as usize).filter(|entry| entry.0 == id.generation)?.1.as_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|entry| entry.1.as_ref())
    }
}
