//! Command lines of the form `--name value`.

use std::str::FromStr;

/// The options of a command line, taken out one by one.
pub struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// Splits the process's command line into options.
    ///
    /// # Errors
    /// A sentence naming the argument that is no `--name value`.
    pub fn from_env() -> Result<Arguments, String> {
        Arguments::parse(std::env::args().skip(1))
    }

    fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let mut options = Vec::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word}: options look like --name value"))?;
            let value = words.next().ok_or_else(|| format!("--{name}: its value is missing"))?;
            options.push((name.to_owned(), value));
        }
        Ok(Arguments(options))
    }

    /// Takes out the option `name`; `None` when it was not given.
    ///
    /// # Errors
    /// A sentence when the value cannot be read as a `T`.
    pub fn optional<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(index) = self.0.iter().position(|(option, _)| option == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(index);
        value.parse().map(Some).map_err(|_| format!("--{name} {value}: not a valid value"))
    }

    /// Takes out the option `name`, which must be there.
    ///
    /// # Errors
    /// A sentence when it is missing or cannot be read as a `T`.
    pub fn required<T: FromStr>(&mut self, name: &str) -> Result<T, String> {
        self.optional(name)?.ok_or_else(|| format!("--{name} is required"))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// A sentence naming an option that nobody asked for.
    pub fn finish(self) -> Result<(), String> {
        match self.0.first() {
            Some((name, _)) => Err(format!("--{name}: no such option")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_taken_by_name() {
        let mut arguments = parse("--clients 64 --mode rr").unwrap();
        assert_eq!(arguments.required::<String>("mode").unwrap(), "rr");
        assert_eq!(arguments.required::<u32>("clients").unwrap(), 64);
        assert_eq!(arguments.optional::<u32>("idle").unwrap(), None);
        assert!(arguments.finish().is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parse("clients").is_err());
        assert!(parse("--clients").is_err());
        assert!(parse("--clients many").unwrap().required::<u32>("clients").is_err());
        assert!(parse("").unwrap().required::<u32>("clients").is_err());
        assert!(parse("--colour red").unwrap().finish().is_err());
    }
}
