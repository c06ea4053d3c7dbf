//! The tracked links of a message: where each leads, and whether each recipient's can be told.
//!
//! Who clicks must be led somewhere, so a link that cannot be filled in is found while its message is made,
//! and only if the message shows it: what stands under a condition that a row does not meet is as if it
//! were not there. Which links there are is for [`tracking`] to find.

use super::template::{Template, Templates};
use super::{Merge, RenderError, Scratch, tracking};

/// A campaign's tracked links, by their number.
#[derive(Default)]
pub(super) struct Links {
    links: Vec<Link>,
    /// Shows them; `None` until it is compiled.
    html: Option<Template>,
}

struct Link {
    template: Template,
    /// Its token, by its place.
    token: usize,
}

impl Links {
    /// Adds the next link.
    pub fn push(&mut self, template: Template, token: usize) {
        self.links.push(Link { template, token });
    }

    /// Says which template shows the links.
    pub fn shown_by(&mut self, html: &Template) {
        if !self.links.is_empty() {
            self.html = Some(html.clone());
        }
    }

    /// Sees that every link the message shows leads somewhere; the recipient's values are in `scratch`.
    ///
    /// # Errors
    /// Why one does not.
    pub fn check(
        &self,
        templates: &Templates,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), RenderError> {
        let mut shown = None;
        for link in &self.links {
            let Err(error) = link.fill(templates, merge, scratch) else { continue };
            let html = match &mut shown {
                Some(html) => html,
                none => none.insert(self.rendered(templates, merge, scratch)?),
            };
            let token = scratch.values.made[link.token].as_bytes();
            if memchr::memmem::find(html, token).is_some() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Where link `number` leads; `None`: there is no such link.
    ///
    /// # Errors
    /// It cannot be filled in for this recipient.
    pub fn target(
        &self,
        number: u16,
        templates: &Templates,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
    ) -> Result<Option<String>, RenderError> {
        let Some(link) = self.links.get(usize::from(number)) else { return Ok(None) };
        link.fill(templates, merge, scratch)?;
        templates.text(&link.template, merge, scratch)?;
        Ok(Some(tracking::target(&String::from_utf8_lossy(&scratch.text))))
    }

    fn rendered(
        &self,
        templates: &Templates,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
    ) -> Result<Vec<u8>, RenderError> {
        let Some(html) = &self.html else { return Ok(Vec::new()) };
        templates.text(html, merge, scratch)?;
        Ok(std::mem::take(&mut scratch.text))
    }
}

impl Link {
    fn fill(
        &self,
        templates: &Templates,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), RenderError> {
        match &self.template.segments {
            // Its values are there already, or refused.
            Some(segments) => scratch.values.refused(segments).map_or(Ok(()), |error| Err(error.clone())),
            None => templates.text(&self.template, merge, scratch),
        }
    }
}
