//! Variables in the order in which RUN gets them.

use std::collections::BTreeMap;

use crate::expand::Variables;

/// Variables, names unique. Setting one again moves it to the end, as in BuildKit's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Env {
    values: BTreeMap<String, Value>,
    next: usize,
}

#[derive(Clone, Debug)]
struct Value {
    text: String,
    /// Its place among the others; there are gaps.
    place: usize,
    /// ARG set it, not ENV.
    from_arg: bool,
}

impl Env {
    /// Sets a variable as ENV does.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.insert(name, value, false);
    }

    /// Sets a variable as ARG does.
    pub(crate) fn set_arg(&mut self, name: &str, value: &str) {
        self.insert(name, value, true);
    }

    fn insert(&mut self, name: &str, text: &str, from_arg: bool) {
        let value = Value { text: text.to_owned(), place: self.next, from_arg };
        self.values.insert(name.to_owned(), value);
        self.next += 1;
    }

    /// The names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// All variables, in order.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        self.ordered(|_| true).map(|(name, value)| (name.clone(), value.text.clone())).collect()
    }

    /// The names of the variables whose value comes from ARG, in order.
    pub(crate) fn arg_names(&self) -> Vec<String> {
        self.ordered(|value| value.from_arg).map(|(name, _)| name.clone()).collect()
    }

    fn ordered(&self, keep: impl Fn(&Value) -> bool) -> impl Iterator<Item = (&String, &Value)> {
        let mut all: Vec<(&String, &Value)> = self.values.iter().filter(|(_, value)| keep(value)).collect();
        all.sort_by_key(|(_, value)| value.place);
        all.into_iter()
    }
}

impl Variables for Env {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.text.as_str())
    }
}
