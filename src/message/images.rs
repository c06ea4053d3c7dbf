//! Pictures within the message: each `cid:name` of the HTML gets its Content-ID, each image its part (RFC 2392).

use super::entity::{self, Entity};
use super::flatten::Flat;
use super::pieces::Piece;
use super::{ContentError, Image};

/// Gives each `cid:name` its Content-ID, and the images as parts.
///
/// # Errors
/// An image that the HTML shows and there is not, or the other way round.
pub(super) fn images(
    html: &mut Flat,
    images: &[Image],
    template: &str,
    id_end: &str,
) -> Result<Vec<Entity>, ContentError> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let refuse = |name: &str, reason| Err(ContentError::Image { name: name.to_owned(), reason });
    let mut shown = vec![false; images.len()];
    for at in 0..html.pieces.len() {
        let before_tag = matches!(html.pieces.get(at + 1), Some(Piece::Tag(_)));
        let Piece::Text(text) = &mut html.pieces[at] else { continue };
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(found) = rest.find("cid:") {
            let (before, after) = rest.split_at(found + 4);
            out.push_str(before);
            rest = after;
            if !before[..found].ends_with(['"', '\'', '(', '=']) {
                continue;
            }
            let name = &after[..after.find(|c| !in_name(c)).unwrap_or(after.len())];
            if name.len() == after.len() && before_tag {
                return refuse(template, "the name after cid: must be written out");
            }
            match images.iter().position(|image| image.name == name) {
                Some(index) => shown[index] = true,
                None => return refuse(name, "the HTML shows it and [images] does not have it"),
            }
            out.push_str(name);
            out.push_str(id_end);
            rest = &after[name.len()..];
        }
        out.push_str(rest);
        *text = out;
    }
    let mut parts = Vec::with_capacity(images.len());
    for (image, shown) in images.iter().zip(shown) {
        if image.name.is_empty() || !image.name.chars().all(in_name) {
            return refuse(&image.name, "an image's name is letters, digits, - and _");
        }
        if !shown {
            return refuse(
                &image.name,
                "nothing in the HTML shows it; write src=\"cid:NAME\", or take it out",
            );
        }
        let kind = entity::kind_of(&image.file_name);
        if !kind.starts_with("image/") {
            return refuse(&image.name, "its file is no image by its name (.png, .jpg, .gif, .webp, .svg)");
        }
        let id = format!("{}{id_end}", image.name);
        parts.push(Entity::file(kind, entity::last(&image.file_name), Some(&id), &image.octets));
    }
    Ok(parts)
}
