//! Calls and answers in their order, from which requests are lifted as they get their place, and put back.

/// No entry.
const NONE: usize = usize::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    before: usize,
    after: usize,
}

/// The list. Entry `2 * number` is the call of request `number`, the entry after that one its answer.
#[derive(Debug)]
pub struct Entries {
    links: Vec<Link>,
    /// The place of each entry in the history.
    places: Vec<u64>,
    first: usize,
}

impl Entries {
    /// All calls and answers, by their places in the history.
    pub fn new(requests: impl Iterator<Item = (u64, u64)>) -> Entries {
        let places: Vec<u64> = requests.flat_map(|(call, end)| [call, end]).collect();
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|entry| places[*entry]);
        let mut links = vec![Link { before: NONE, after: NONE }; places.len()];
        for pair in order.windows(2) {
            links[pair[0]].after = pair[1];
            links[pair[1]].before = pair[0];
        }
        Entries { links, places, first: order.first().copied().unwrap_or(NONE) }
    }

    /// The requests that may be next: called before any of those that are left was answered.
    pub fn next(&self) -> Vec<usize> {
        let mut next = Vec::new();
        let mut entry = self.first;
        while entry != NONE && entry.is_multiple_of(2) {
            next.push(entry / 2);
            entry = self.links[entry].after;
        }
        next
    }

    /// The place of the first answer that is left.
    pub fn first_answer(&self) -> Option<u64> {
        let mut entry = self.first;
        while entry != NONE && entry.is_multiple_of(2) {
            entry = self.links[entry].after;
        }
        (entry != NONE).then(|| self.places[entry])
    }

    /// Takes a request out.
    pub fn lift(&mut self, number: usize) {
        self.unlink(2 * number);
        self.unlink(2 * number + 1);
    }

    /// Puts the request back that was taken out last.
    pub fn put_back(&mut self, number: usize) {
        self.link(2 * number + 1);
        self.link(2 * number);
    }

    fn unlink(&mut self, entry: usize) {
        let Link { before, after } = self.links[entry];
        match before {
            NONE => self.first = after,
            before => self.links[before].after = after,
        }
        if after != NONE {
            self.links[after].before = before;
        }
    }

    fn link(&mut self, entry: usize) {
        let Link { before, after } = self.links[entry];
        match before {
            NONE => self.first = entry,
            before => self.links[before].after = entry,
        }
        if after != NONE {
            self.links[after].before = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Entries;

    #[test]
    fn requests_are_next_until_the_first_answer_and_come_back_where_they_were() {
        let mut entries = Entries::new([(1, 4), (2, 3), (5, 6)].into_iter());
        assert_eq!((entries.next(), entries.first_answer()), (vec![0, 1], Some(3)));
        entries.lift(1);
        assert_eq!((entries.next(), entries.first_answer()), (vec![0], Some(4)));
        entries.lift(0);
        assert_eq!(entries.next(), [2]);
        entries.put_back(0);
        entries.put_back(1);
        assert_eq!((entries.next(), entries.first_answer()), (vec![0, 1], Some(3)));
        [1, 0, 2].into_iter().for_each(|number| entries.lift(number));
        assert_eq!((entries.next(), entries.first_answer()), (vec![], None));
    }
}
