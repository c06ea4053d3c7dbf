//! A list of people who live in the world, in the mix its providers' weights give.
//!
//! The same seed and number give the same people. No address comes twice.

use super::World;
use super::chance;

const FIRST_NAMES: [&str; 24] = [
    "Ada", "Alan", "Amina", "Bao", "Björn", "Chloé", "Dmitri", "Elif", "Fatima", "Grace", "Hiro", "Ines",
    "Jürgen", "Kofi", "Lena", "Mateo", "Nia", "Olga", "Priya", "Quentin", "Rosa", "Søren", "Tomás", "Zoë",
];
const LAST_NAMES: [&str; 24] = [
    "Abara", "Becker", "Costa", "Dubois", "Eriksen", "Fischer", "García", "Hopper", "Ito", "Jansen", "Kim",
    "Lovelace", "Müller", "Nguyen", "O'Brien", "Petrov", "Quist", "Rossi", "Silva", "Turing", "Ueda",
    "Varga", "Weiß", "Yılmaz",
];

/// Somebody to write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub email: String,
    pub first_name: &'static str,
    pub last_name: &'static str,
}

impl World {
    /// `count` people; domains of a provider are chosen alike, providers by weight.
    pub fn sample(&self, count: usize) -> Vec<Person> {
        let plan = &self.shared.plan;
        let mut domains: Vec<Vec<&str>> = vec![Vec::new(); plan.providers.len()];
        for (name, domain) in &plan.domains {
            domains[domain.provider].push(name);
        }
        for names in &mut domains {
            names.sort_unstable();
        }
        let weight = |number: usize| match plan.providers[number].file.weight {
            Some(weight) => weight,
            None => domains[number].len() as u32,
        };
        let mut bounds = Vec::with_capacity(domains.len());
        let mut total = 0_u32;
        for (number, names) in domains.iter().enumerate() {
            total += if names.is_empty() { 0 } else { weight(number) };
            bounds.push(total);
        }
        if total == 0 {
            return Vec::new();
        }
        let pick = |purpose: &str, number: usize, among: usize| {
            let point = chance::share(plan.seed, purpose, b"sample", number as u64);
            ((point * among as f64) as usize).min(among - 1)
        };
        let person = |number: usize| {
            let point = pick("provider", number, total as usize) as u32;
            let names = &domains[bounds.partition_point(|bound| *bound <= point)];
            let domain = names[pick("domain", number, names.len())];
            let first_name = FIRST_NAMES[pick("first", number, FIRST_NAMES.len())];
            let last_name = LAST_NAMES[pick("last", number, LAST_NAMES.len())];
            let email = format!("{}.{}{number}@{domain}", plain(first_name), plain(last_name));
            Person { email, first_name, last_name }
        };
        (1..=count).map(person).collect()
    }
}

/// Lower-case ASCII letters of a name.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect()
}
