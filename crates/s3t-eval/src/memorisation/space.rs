//! The spaces from which secrets are drawn.

use std::collections::BTreeSet;

use s3t_core::digest::DigestBuilder;

/// The secrets among which one was drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSpace {
    /// All words of some length over an alphabet.
    Words {
        /// The letters, distinct.
        alphabet: Vec<char>,
        /// The number of letters of a secret.
        length: u32,
    },
    /// A list of secrets, distinct.
    List(Vec<String>),
}

impl SecretSpace {
    /// The words of `length` letters of an alphabet.
    ///
    /// # Errors
    ///
    /// The problem with the alphabet or the length, in words that go on after the space's name.
    pub fn words(alphabet: &str, length: u32) -> Result<Self, String> {
        let letters: Vec<char> = alphabet.chars().collect();
        if let Some(twice) = letters.iter().enumerate().find(|(at, letter)| letters[..*at].contains(letter)) {
            return Err(format!("has `{}` twice in its alphabet", twice.1));
        }
        if letters.len() < 2 || !(1..=64).contains(&length) {
            return Err(format!(
                "has {} letters and secrets of {length}; it takes at least 2 letters and 1 to 64 of them",
                letters.len()
            ));
        }
        Ok(Self::Words { alphabet: letters, length })
    }

    /// A list of secrets.
    ///
    /// # Errors
    ///
    /// The problem with the list, in words that go on after the space's name.
    pub fn list(secrets: Vec<String>) -> Result<Self, String> {
        let mut seen = BTreeSet::new();
        if let Some(twice) = secrets.iter().find(|secret| !seen.insert(secret.as_str())) {
            return Err(format!("has `{twice}` twice"));
        }
        if secrets.len() < 2 {
            return Err(format!("has {}; give at least 2 secrets", secrets.len()));
        }
        Ok(Self::List(secrets))
    }

    /// The number of its secrets; a very large one is rounded.
    pub fn size(&self) -> f64 {
        match self {
            Self::Words { alphabet, length } => (alphabet.len() as f64).powi(*length as i32),
            Self::List(secrets) => secrets.len() as f64,
        }
    }

    /// True if a secret is one of the space's.
    pub fn contains(&self, secret: &str) -> bool {
        match self {
            Self::Words { alphabet, length } => {
                secret.chars().count() == *length as usize && secret.chars().all(|letter| alphabet.contains(&letter))
            }
            Self::List(secrets) => secrets.iter().any(|other| other == secret),
        }
    }

    /// Every secret but one, if the space has at most `limit`.
    pub fn others(&self, secret: &str, limit: usize) -> Option<Vec<String>> {
        if self.size() > limit as f64 {
            return None;
        }
        let all: Vec<String> = match self {
            Self::Words { .. } => (0..self.size() as u64).filter_map(|number| self.word(number)).collect(),
            Self::List(secrets) => secrets.clone(),
        };
        Some(all.into_iter().filter(|other| other != secret).collect())
    }

    /// A sample of other secrets, drawn with replacement by a hash of `seed`, so that the same seed gives the same ones.
    pub fn sample(&self, secret: &str, count: usize, seed: u64) -> Vec<String> {
        let number = |at: u64, letter: u64| {
            let digest = DigestBuilder::new("canary").number(seed).number(at).number(letter).finish();
            digest.as_bytes()[..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let drawn = |at: u64| match self {
            Self::List(secrets) => secrets[(number(at, 0) % secrets.len() as u64) as usize].clone(),
            Self::Words { alphabet, length } => (0..u64::from(*length))
                .map(|letter| alphabet[(number(at, letter) % alphabet.len() as u64) as usize])
                .collect(),
        };
        (0..).map(drawn).filter(|other| other != secret).take(count).collect()
    }

    /// The word of a number: its digits in the base of the alphabet's size, the last letter first.
    fn word(&self, number: u64) -> Option<String> {
        let Self::Words { alphabet, length } = self else { return None };
        let mut left = number;
        let letters = (0..*length).map(|_| {
            let letter = alphabet[(left % alphabet.len() as u64) as usize];
            left /= alphabet.len() as u64;
            letter
        });
        Some(letters.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_of_words_lists_each_of_them_once() {
        let space = SecretSpace::words("abc", 3).unwrap();
        let others: BTreeSet<String> = space.others("abc", 27).unwrap().into_iter().collect();
        assert_eq!((space.size(), others.len()), (27.0, 26));
        assert!(others.iter().all(|other| space.contains(other)) && !others.contains("abc"));
        assert_eq!(space.others("abc", 26), None);
        assert!(!space.contains("abd") && !space.contains("ab"));
    }

    #[test]
    fn a_sample_is_that_of_its_seed_and_lacks_the_secret() {
        let space = SecretSpace::words("01", 4).unwrap();
        let sample = space.sample("0110", 500, 3);
        assert_eq!(sample, space.sample("0110", 500, 3));
        assert_ne!(sample, space.sample("0110", 500, 4));
        let seen: BTreeSet<&String> = sample.iter().collect();
        assert_eq!((sample.len(), seen.len()), (500, 15), "all others come up");
        assert!(SecretSpace::words("aa", 2).is_err() && SecretSpace::words("ab", 0).is_err());
        assert!(SecretSpace::list(vec!["x".into()]).is_err());
    }
}
