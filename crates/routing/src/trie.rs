//! Called numbers and the routes that they belong to: a compressed trie.
//!
//! It is persistent: a change copies the nodes on its way and shares all others with the tries before it, so that one change
//! among a million prefixes costs microseconds and a reader never waits. What nobody else holds is changed in place, so
//! building a trie at once costs no copies.
//!
//! Invariant: a node but the root holds routes or has children; a lone child is joined to its parent where the label allows.

use std::sync::Arc;

use crate::Rule;

/// Most characters of a number that are looked at.
pub(crate) const LONGEST: usize = 64;
/// Characters of a number that one node can hold.
const LABEL: usize = 5;

/// Routes by called number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trie {
    root: Node,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Which of the characters that numbers are mostly made of children begin with, as [`bit`] has them: so the way down touches no
    /// node but those that it goes through.
    common: u16,
    length: u8,
    label: [u8; LABEL],
    rules: Rules,
    /// Those of `common` in its order, then the others by their first character.
    children: Box<[Arc<Node>]>,
}

/// The routes of one number. Most have one, which then needs no list.
#[derive(Clone, Debug, Default)]
enum Rules {
    #[default]
    None,
    Prefix(Rule),
    Exact(Rule),
    Many(Arc<Vec<(bool, Rule)>>),
}

/// A route whose called number fits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fit<'a> {
    pub rule: &'a Rule,
    /// Characters of the number that it names.
    pub length: usize,
    /// It names the whole number.
    pub exact: bool,
}

impl Trie {
    /// Adds a route under a number; under an empty one it takes every call.
    pub fn insert(&mut self, number: &[u8], exact: bool, rule: &Rule) {
        insert(&mut self.root, clip(number), exact, rule);
    }

    /// Takes a route out that was added under a number.
    pub fn remove(&mut self, number: &[u8], exact: bool, rule: &Rule) {
        remove(&mut self.root, clip(number), exact, rule);
    }

    /// The routes whose called number fits, the most specific first: the exact ones, then from the longest prefix to the
    /// shortest; those of one prefix by the number of their other conditions, by precedence, by id.
    pub fn fits<'a>(&'a self, number: &[u8]) -> impl Iterator<Item = Fit<'a>> + use<'a> {
        let number = clip(number);
        let mut found: [Option<&Node>; LONGEST + 1] = [None; LONGEST + 1];
        let (mut depth, mut rest, mut node) = (0, number, &self.root);
        loop {
            if !matches!(node.rules, Rules::None) {
                found[number.len() - rest.len()] = Some(node);
                depth = number.len() - rest.len();
            }
            let Some(child) = rest.first().and_then(|first| node.child(*first)) else { break };
            let Some(left) = rest.strip_prefix(child.label()) else { break };
            (rest, node) = (left, child);
        }
        let whole = number.len();
        (0..=depth).rev().filter_map(move |length| Some((length, found[length]?))).flat_map(move |(length, node)| {
            let fit = move |(exact, rule)| Fit { rule, length, exact };
            let of_kind = move |wanted: bool| node.rules.iter().filter(move |(exact, _)| *exact == wanted).map(fit);
            of_kind(true).filter(move |_| length == whole).chain(of_kind(false))
        })
    }
}

fn clip(number: &[u8]) -> &[u8] {
    &number[..number.len().min(LONGEST)]
}

impl Node {
    fn new(label: &[u8], rules: Rules, (common, children): (u16, Box<[Arc<Node>]>)) -> Node {
        let mut bytes = [0; LABEL];
        bytes[..label.len()].copy_from_slice(label);
        Node { common, length: label.len() as u8, label: bytes, rules, children }
    }

    fn take_children(&mut self) -> (u16, Box<[Arc<Node>]>) {
        (std::mem::take(&mut self.common), std::mem::take(&mut self.children))
    }

    fn label(&self) -> &[u8] {
        &self.label[..usize::from(self.length)]
    }

    /// Where the child that begins so is, or would be.
    fn place(&self, first: u8) -> Result<usize, usize> {
        match bit(first) {
            Some(bit) => {
                let before = (self.common & (bit - 1)).count_ones() as usize;
                if self.common & bit != 0 { Ok(before) } else { Err(before) }
            }
            None => {
                let common = self.common.count_ones() as usize;
                let found = self.children[common..].binary_search_by_key(&first, |child| child.label[0]);
                found.map(|at| common + at).map_err(|at| common + at)
            }
        }
    }

    fn child(&self, first: u8) -> Option<&Node> {
        self.place(first).ok().map(|at| &*self.children[at])
    }

    fn add_child(&mut self, at: usize, child: Node) {
        self.common |= bit(child.label[0]).unwrap_or(0);
        let mut children = std::mem::take(&mut self.children).into_vec();
        children.insert(at, Arc::new(child));
        self.children = children.into();
    }

    fn remove_child(&mut self, at: usize) {
        let mut children = std::mem::take(&mut self.children).into_vec();
        let gone = children.remove(at);
        self.common &= !bit(gone.label[0]).unwrap_or(0);
        self.children = children.into();
    }
}

/// The bit of a common character: digits, then `+`, `*` and `#`.
fn bit(character: u8) -> Option<u16> {
    let at = match character {
        b'0'..=b'9' => character - b'0',
        b'+' => 10,
        b'*' => 11,
        b'#' => 12,
        _ => return None,
    };
    Some(1 << at)
}

fn insert(node: &mut Node, number: &[u8], exact: bool, rule: &Rule) {
    let Some(first) = number.first() else {
        return node.rules.add(exact, rule);
    };
    let at = match node.place(*first) {
        Ok(at) => at,
        Err(at) => {
            let (label, rest) = number.split_at(number.len().min(LABEL));
            let mut child = Node::new(label, Rules::None, Default::default());
            insert(&mut child, rest, exact, rule);
            return node.add_child(at, child);
        }
    };
    let child = Arc::make_mut(&mut node.children[at]);
    let common = child.label().iter().zip(number).take_while(|(a, b)| a == b).count();
    if common < child.label().len() {
        let (rules, children) = (std::mem::take(&mut child.rules), child.take_children());
        let rest = Node::new(&child.label()[common..], rules, children);
        *child = Node::new(&number[..common], Rules::None, Default::default());
        child.add_child(0, rest);
    }
    insert(child, &number[common..], exact, rule);
}

fn remove(node: &mut Node, number: &[u8], exact: bool, rule: &Rule) {
    let Some(first) = number.first() else {
        return node.rules.remove(exact, rule);
    };
    let Ok(at) = node.place(*first) else { return };
    let child = Arc::make_mut(&mut node.children[at]);
    let Some(rest) = number.strip_prefix(child.label()) else { return };
    remove(child, rest, exact, rule);
    if !matches!(child.rules, Rules::None) {
        return;
    }
    match &*child.children {
        [] => node.remove_child(at),
        [only] if child.label().len() + only.label().len() <= LABEL => {
            let label = [child.label(), only.label()].concat();
            *child = Node::new(&label, only.rules.clone(), (only.common, only.children.clone()));
        }
        _ => {}
    }
}

impl Rules {
    fn iter(&self) -> impl Iterator<Item = (bool, &Rule)> {
        let (one, many) = match self {
            Rules::None => (None, [].as_slice()),
            Rules::Prefix(rule) => (Some((false, rule)), [].as_slice()),
            Rules::Exact(rule) => (Some((true, rule)), [].as_slice()),
            Rules::Many(many) => (None, many.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|(exact, rule)| (*exact, rule)))
    }

    fn set(&mut self, mut all: Vec<(bool, Rule)>) {
        *self = match all.len() {
            0 => Rules::None,
            1 => match all.remove(0) {
                (true, rule) => Rules::Exact(rule),
                (false, rule) => Rules::Prefix(rule),
            },
            _ => Rules::Many(Arc::new(all)),
        };
    }

    fn add(&mut self, exact: bool, rule: &Rule) {
        let mut all: Vec<(bool, Rule)> = self.iter().map(|(exact, rule)| (exact, rule.clone())).collect();
        let at = all.partition_point(|(_, other)| other.order() < rule.order());
        all.insert(at, (exact, rule.clone()));
        self.set(all);
    }

    fn remove(&mut self, exact: bool, rule: &Rule) {
        let others = self.iter().filter(|(kind, other)| *kind != exact || other.id() != rule.id());
        let others: Vec<(bool, Rule)> = others.map(|(exact, rule)| (exact, rule.clone())).collect();
        self.set(others);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use registry::{Route, RouteTarget};

    use super::*;

    fn rule(id: &str, precedence: u32) -> Rule {
        Rule::new(Arc::new(Route {
            id: id.into(),
            enabled: true,
            emergency: false,
            precedence,
            called: Box::default(),
            conditions: None,
            targets: Box::new([RouteTarget::Trunk("t".into())]),
            treatment: None,
            comment: None,
            labels: Box::default(),
        }))
    }

    /// The invariant, and how many nodes there are.
    fn check(node: &Node, root: bool) -> usize {
        let order = |character: u8| {
            COMMON.iter().position(|one| *one == character).unwrap_or(COMMON.len() + usize::from(character))
        };
        let children: Vec<usize> = node.children.iter().map(|child| order(child.label()[0])).collect();
        assert!(children.is_sorted_by(|a, b| a < b) && node.length as usize <= LABEL);
        let common = children.iter().filter(|at| **at < COMMON.len()).fold(0, |bits, at| bits | 1 << at);
        assert_eq!(node.common, common);
        if !root {
            assert!(!matches!(node.rules, Rules::None) || !node.children.is_empty(), "{node:?}");
        }
        1 + node.children.iter().map(|child| check(child, false)).sum::<usize>()
    }

    const COMMON: &[u8; 13] = b"0123456789+*#";

    type Step = (String, bool, u8, bool);

    fn numbers() -> impl Strategy<Value = String> {
        prop_oneof!["[12]{0,4}", "[12]{5,20}", "\\+49[0-9]{0,3}", "[ab1*]{0,4}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        /// Whatever is added and removed, a look-up finds what a plain search would, and the tries before a change stay.
        #[test]
        fn it_finds_what_a_plain_search_finds(
            steps in prop::collection::vec((numbers(), any::<bool>(), 0u8..3, any::<bool>()), 1..24),
            asked in prop::collection::vec(numbers(), 1..20),
        ) {
            let mut trie = Trie::default();
            let mut plain: BTreeMap<(String, bool, u8), Rule> = BTreeMap::new();
            let mut before = Vec::new();
            let steps: Vec<Step> = steps;
            for (number, exact, id, adds) in steps {
                let rule = rule(&format!("r{id}"), u32::from(2 - id));
                let key = (number.clone(), exact, id);
                before.push((trie.clone(), plain.clone()));
                // A route stands once under a number.
                trie.remove(number.as_bytes(), exact, &rule);
                plain.remove(&key);
                if adds {
                    trie.insert(number.as_bytes(), exact, &rule);
                    plain.insert(key, rule);
                }
                check(&trie.root, true);
            }
            before.push((trie, plain));
            for (trie, plain) in before {
                for number in &asked {
                    let mut expected: Vec<(usize, bool, u32, String)> = plain
                        .iter()
                        .filter(|((known, exact, _), _)| {
                            if *exact { known == number } else { number.starts_with(known.as_str()) }
                        })
                        .map(|((known, exact, _), rule)| {
                            (known.len(), *exact, rule.route().precedence, rule.id().to_string())
                        })
                        .collect();
                    expected.sort_by_key(|(length, exact, precedence, id)| {
                        (std::cmp::Reverse((*length, *exact)), *precedence, id.clone())
                    });
                    let found: Vec<_> = trie
                        .fits(number.as_bytes())
                        .map(|fit| (fit.length, fit.exact, fit.rule.route().precedence, fit.rule.id().to_string()))
                        .collect();
                    prop_assert_eq!(found, expected, "{}", number);
                }
            }
        }
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let mut trie = Trie::default();
        let rule = rule("a", 0);
        let numbers: Vec<String> = (0..2000u32).map(|n| format!("+{}", n * 7919 % 100_000)).collect();
        for number in &numbers {
            trie.insert(number.as_bytes(), false, &rule);
        }
        assert!(check(&trie.root, true) > 1000);
        for number in &numbers {
            trie.remove(number.as_bytes(), false, &rule);
        }
        assert_eq!(check(&trie.root, true), 1);
    }

    #[test]
    fn a_number_beyond_all_bounds_is_cut() {
        let mut trie = Trie::default();
        let long = "1".repeat(LONGEST + 10);
        trie.insert(long.as_bytes(), false, &rule("a", 0));
        assert_eq!(trie.fits(long.as_bytes()).count(), 1);
        assert_eq!(trie.fits("1".repeat(1000).as_bytes()).count(), 1);
    }

    #[test]
    fn a_node_is_small() {
        // With the counts of its Arc it fills one block of 64 bytes and its header.
        assert_eq!(size_of::<Node>(), 40);
    }
}
