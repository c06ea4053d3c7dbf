//! The page of a preview: one file that needs nothing else, with the rows as JSON in it.
//!
//! The page trusts nothing it shows. The JSON holds no character that could end its element; the page's
//! script puts it into the document as text, and HTML bodies into sandboxed frames that run no script. A
//! content security policy allows the page's own script, by its hash, and no other.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::sample::Sample;
use super::shown::Shown;
use crate::cli::causes;

const TEMPLATE: &str = include_str!("page.html");

/// Rows gathered for a page.
#[derive(Serialize)]
pub struct Page {
    campaign: String,
    rows: Vec<PageRow>,
    /// As `data:` URIs, each once however many rows show it.
    images: Vec<String>,
    #[serde(skip)]
    known: HashMap<u128, usize>,
}

#[derive(Serialize)]
struct PageRow {
    row: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    address: String,
    /// Why the row would be rejected or invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Shown>,
    /// By Content-ID, which of the page's images.
    images: HashMap<String, usize>,
}

impl Page {
    pub fn new(campaign: &str) -> Self {
        Self { campaign: campaign.to_owned(), rows: Vec::new(), images: Vec::new(), known: HashMap::new() }
    }

    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Rows that would not be sent.
    pub fn problems(&self) -> usize {
        self.rows.iter().filter(|row| row.problem.is_some()).count()
    }

    pub fn add(&mut self, sample: Sample) {
        let Sample { row, variant, address, warnings, message } = sample;
        let (message, problem) = match message {
            Ok(message) => (Some(Shown::parse(&message)), None),
            Err(error) => (None, Some(causes(&error))),
        };
        let images = message.iter().flat_map(|shown| &shown.images);
        let images = images.map(|image| (image.content_id.clone(), self.image(&image.kind, &image.octets)));
        let images = images.collect();
        self.rows.push(PageRow { row, variant, address, problem, warnings, message, images });
    }

    fn image(&mut self, kind: &str, octets: &[u8]) -> usize {
        let images = &mut self.images;
        *self.known.entry(xxhash_rust::xxh3::xxh3_128(octets)).or_insert_with(|| {
            images.push(format!("data:{kind};base64,{}", BASE64.encode(octets)));
            images.len() - 1
        })
    }

    pub fn html(&self) -> String {
        let data = serde_json::to_string(self).expect("rows are strings, numbers and lists");
        // The template's marks are found in it alone, never in what was put in their places.
        let (before_policy, rest) = TEMPLATE.split_once("{{policy}}").expect("it is in the template");
        let (before_title, rest) = rest.split_once("{{campaign}}").expect("it is in the template");
        let (before_data, rest) = rest.split_once("{{data}}").expect("it is in the template");
        let campaign = in_markup(&self.campaign);
        let (policy, data) = (policy(), in_script(&data));
        [before_policy, &policy, before_title, &campaign, before_data, &data, rest].concat()
    }
}

/// What the page may load: its own script, and what messages show: images, styles and fonts.
fn policy() -> String {
    let (_, script) = TEMPLATE.rsplit_once("<script>").expect("the template has a script");
    let (script, _) = script.split_once("</script>").expect("the script ends");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, script.as_bytes());
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline' https:; \
         img-src data: https: http:; font-src data: https:; base-uri 'none'; form-action 'none'",
        BASE64.encode(hash)
    )
}

/// JSON that no script element's end, comment or line separator can be read out of.
fn in_script(json: &str) -> String {
    let mut safe = String::with_capacity(json.len() + json.len() / 8);
    for character in json.chars() {
        match character {
            // Outside of strings JSON has none of these, and in one this is how they are written, too.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => safe.push(other),
        }
    }
    safe
}

fn in_markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_a_script_means_the_same_and_ends_nothing() {
        let text = "</script><!-- \u{2028} & \u{2029} -->";
        let json = in_script(&serde_json::to_string(text).unwrap());
        assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn an_image_that_many_rows_show_is_in_the_page_once() {
        let mut page = Page::new("test");
        let message = b"Content-Type: image/png\r\nContent-ID: <a>\r\n\r\nabc";
        for row in 1..=3 {
            let message = Ok(message.to_vec());
            page.add(Sample {
                row,
                variant: None,
                address: "a@one.test".into(),
                warnings: Vec::new(),
                message,
            });
        }
        assert_eq!(page.images, ["data:image/png;base64,YWJj"]);
        assert!(page.rows.iter().all(|row| row.images["a"] == 0));
    }
}
