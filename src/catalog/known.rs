//! The catalog as far as documents name it. Must not select or render.

use super::Catalog;
use crate::config::Known;

impl Catalog {
    /// Its components, for checking documents.
    pub fn known(&self) -> Vec<Known<'_>> {
        self.components
            .values()
            .map(|c| Known {
                name: &c.name,
                required: c.required,
            })
            .collect()
    }
}
