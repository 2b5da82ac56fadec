//! What the library counted: the JSON objects that preloaded processes leave in `USERSTACK_STATS` at exit.

use std::collections::BTreeMap;
use std::path::Path;

/// The counters of a program: of all its processes together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    counters: BTreeMap<String, u64>,
}

impl Stats {
    /// Reads a file of flat JSON objects of counts; a file that is missing is a program without counters.
    pub(crate) fn read(path: &Path) -> Stats {
        Stats::parse(&std::fs::read_to_string(path).unwrap_or_default())
    }

    fn parse(text: &str) -> Stats {
        let mut stats = Stats::default();
        for member in text.split([',', '{', '}']) {
            let Some((name, value)) = member.split_once(':') else { continue };
            let Ok(value) = value.trim().parse::<u64>() else { continue };
            *stats.counters.entry(name.trim().trim_matches('"').to_string()).or_default() += value;
        }
        stats
    }

    /// A counter by its name in the JSON object.
    ///
    /// # Panics
    /// If there is none: a misspelt name must not read as 0.
    pub fn get(&self, name: &str) -> u64 {
        *self.counters.get(name).unwrap_or_else(|| panic!("no counter {name} in {:?}", self.counters))
    }

    /// Flows that the library served, in either direction.
    pub fn flows(&self) -> u64 {
        self.get("flows_opened") + self.get("flows_accepted")
    }

    /// Whether the program left no counters: it never had the library at work, or was killed.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Stats;

    #[test]
    fn the_processes_of_a_program_are_added_up() {
        let stats = Stats::parse("{\"flows_opened\": 2, \"flows_accepted\":1}\n{\"flows_opened\":3,\n \"kicks\":7}\n");
        assert_eq!((stats.get("flows_opened"), stats.get("kicks"), stats.flows()), (5, 7, 6));
    }

    #[test]
    fn nothing_written_is_no_counters() {
        assert!(Stats::parse("").is_empty());
    }
}
