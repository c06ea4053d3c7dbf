//! Links that lead over the tracking server, and the picture that tells of an opened message.
//!
//! Works on the HTML template once it is whole (files put in, MJML and CSS done), before it is compiled: the
//! address of `<a href="https://…">` becomes the base URL and the link's token, and the template that stood
//! there is kept, for it says where the link of this recipient leads. What is between the quotes is all that
//! changes. Left as they are: links to leave the list, links marked `data-no-track` (the mark goes), other
//! schemes, links that begin with a template tag, for what they lead to is not known here, and what stands
//! in comments, in `<script>` and the like, and in `{% raw %}`.

use std::collections::HashSet;
use std::ops::Range;

use super::ContentError;
use super::anchors::{self, Anchor, Whole};
use super::flatten::Flat;
use super::folder::Folder;
use super::pieces::{self, Kind, Origin, Piece, Tag};

/// Marks a link that stays.
pub(super) const NO_TRACK: &str = "data-no-track";
/// Links of a message at most: a token has 16 bits for their number.
const LINKS_MAX: usize = 1 << 16;
/// What is to be rewritten.
pub(super) struct Wanted<'a> {
    pub base_url: &'a str,
    /// The variable of link n is this and n; `None`: links stay.
    pub click: Option<&'a str>,
    /// The variable of the picture's token; `None`: no picture.
    pub open: Option<&'a str>,
    /// Links that lead out of the list.
    pub leave: Leave<'a>,
}

/// How links to leave the list are known.
#[derive(Default)]
pub(super) struct Leave<'a> {
    /// Of one-click links with our tokens.
    pub base_url: Option<&'a str>,
    /// The manifest's own, a template.
    pub url: Option<&'a str>,
}

/// Rewrites the HTML called `name`; gives the templates of the links it took out, by their number.
///
/// # Errors
/// A link that only its place in the template can fill in, or one that is not seen here.
pub(super) fn rewrite(
    name: &str,
    flat: &Flat,
    wanted: &Wanted<'_>,
    folder: Option<&Folder>,
) -> Result<(Flat, Vec<Flat>), ContentError> {
    if let Some(origin) = &flat.unresolved {
        return Err(origin.error(
            "with [tracking], layouts and partials are plain: extends at the top, block, include \"file\", super()",
        ));
    }
    let whole = Whole::new(&flat.pieces);
    let (anchors, body_end) = anchors::scan(&whole);
    let mut editor = Editor { whole: &whole, out: Vec::new(), written: 0 };
    let mut links = Vec::new();
    let locals = Locals::of(&flat.pieces);
    let base_url = escaped(wanted.base_url);
    if wanted.click.is_some() {
        no_links_in_macros(&flat.pieces, folder)?;
    }
    let pixel = |editor: &mut Editor<'_>, open: &str| {
        editor.text(&format!("<img src=\"{base_url}"));
        editor.variable(open, name);
        editor.text("\" width=\"1\" height=\"1\" alt=\"\" style=\"border:0\">");
    };
    let mut edits: Vec<Edit> = anchors.into_iter().flat_map(edits).collect();
    edits.extend(body_end.map(Edit::Pixel));
    edits.sort_unstable_by_key(Edit::start);
    for edit in edits {
        match (edit, wanted.click, wanted.open) {
            (Edit::Mark(range), ..) => editor.replace(range),
            (Edit::Pixel(at), _, Some(open)) => {
                editor.replace(at..at);
                pixel(&mut editor, open);
            }
            (Edit::Link(range), Some(click), _) => {
                let link = whole.pieces(range.clone());
                if !is_tracked(&whole, &range, &link, wanted) {
                    continue;
                }
                locals.check(&link)?;
                if links.len() == LINKS_MAX {
                    return Err(whole.origin(&range, name).error("more than 65536 links"));
                }
                editor.replace(range);
                editor.text(&base_url);
                editor.variable(&format!("{click}{}", links.len()), name);
                links.push(Flat { pieces: link, unresolved: None });
            }
            _ => {}
        }
    }
    editor.replace(whole.text.len()..whole.text.len());
    if let (Some(open), None) = (wanted.open, body_end) {
        pixel(&mut editor, open);
    }
    Ok((Flat { pieces: editor.out, unresolved: None }, links))
}

/// Puts the plain text of one-click links in place of `{{ unsubscribe_url }}`, so that its slashes need no
/// escapes; `variable` holds the token alone.
pub(super) fn plain_unsubscribe(flat: &mut Flat, base_url: &str, variable: &str) {
    let assigned = Locals::of(&flat.pieces).0.contains("unsubscribe_url");
    if flat.unresolved.is_some() || assigned {
        return;
    }
    let mut out = Vec::with_capacity(flat.pieces.len());
    for piece in std::mem::take(&mut flat.pieces) {
        match piece {
            Piece::Tag(tag) if tag.kind == Kind::Output && tag.inside() == "unsubscribe_url" => {
                pieces::push_text(&mut out, &escaped(base_url));
                out.push(output(variable, tag.origin));
            }
            Piece::Text(text) => pieces::push_text(&mut out, &text),
            other => out.push(other),
        }
    }
    flat.pieces = out;
}

/// What a rendered `href` leads to: character references resolved, blanks and line ends taken out as
/// browsers do.
pub(super) fn target(rendered: &str) -> String {
    decoded(rendered).trim().chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect()
}

fn output(variable: &str, origin: Origin) -> Piece {
    Piece::Tag(Tag { kind: Kind::Output, text: format!("{{{{ {variable} }}}}"), origin })
}

/// A URL without `<`, `>` and quotes, as HTML has it.
fn escaped(url: &str) -> String {
    url.replace('&', "&amp;")
}

/// Resolves the character references that URLs are written with.
fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference = rest[1..].find(';').filter(|&end| end <= 8).map(|end| &rest[1..=end]);
        let character = reference.and_then(|name| match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            name => {
                let number = name.strip_prefix('#')?;
                let number = match number.strip_prefix(['x', 'X']) {
                    Some(digits) => u32::from_str_radix(digits, 16),
                    None => number.parse(),
                };
                char::from_u32(number.ok()?)
            }
        });
        let taken = match character {
            Some(character) => {
                out.push(character);
                reference.map_or(1, |name| name.len() + 2)
            }
            None => {
                out.push('&');
                1
            }
        };
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out
}

/// Names that tags of the template itself give values to.
struct Locals(HashSet<String>);

impl Locals {
    fn of(pieces: &[Piece]) -> Self {
        let mut names = HashSet::new();
        for tag in pieces.iter().filter_map(as_tag) {
            let rest = tag.rest();
            let names_in = match tag.keyword() {
                "for" => rest.split(" in ").next().unwrap_or(rest),
                "set" => rest.split('=').next().unwrap_or(rest),
                "with" | "macro" | "import" | "from" | "call" => rest,
                _ => continue,
            };
            names.extend(words(names_in).map(str::to_owned));
            names.extend(["loop", "caller"].map(str::to_owned));
        }
        Self(names)
    }

    /// # Errors
    /// A link whose text depends on where it stands.
    fn check(&self, link: &[Piece]) -> Result<(), ContentError> {
        for tag in link.iter().filter_map(as_tag) {
            if let Some(name) = words(tag.inside()).find(|word| self.0.contains(*word)) {
                return Err(tag.origin.error(format!(
                    "a tracked link cannot hold `{name}`, which only this place in the template knows: \
                     write the value out, or mark the link {NO_TRACK}"
                )));
            }
        }
        Ok(())
    }
}

fn as_tag(piece: &Piece) -> Option<&Tag> {
    match piece {
        Piece::Tag(tag) => Some(tag),
        Piece::Text(_) => None,
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Links that an imported macro writes are not seen here.
fn no_links_in_macros(pieces: &[Piece], folder: Option<&Folder>) -> Result<(), ContentError> {
    let Some(folder) = folder else { return Ok(()) };
    for tag in pieces.iter().filter_map(as_tag) {
        let Some(named) = tag.files()? else { continue };
        for name in named.names {
            let Ok(text) = folder.template(&name) else { continue };
            let text = text.to_ascii_lowercase();
            let has_anchor = text.split("<a").skip(1).any(|after| after.starts_with(char::is_whitespace));
            if has_anchor && text.contains("href") {
                return Err(tag.origin.error(format!(
                    "`{name}` has links, and links of imported macros cannot be tracked: \
                     use {{% include %}}, or leave tracking.clicks out"
                )));
            }
        }
    }
    Ok(())
}

/// Whether the link in `range` is one that leads over the tracking server.
fn is_tracked(whole: &Whole<'_>, range: &Range<usize>, link: &[Piece], wanted: &Wanted<'_>) -> bool {
    let text = &whole.text[range.clone()];
    let head = decoded(text.split(whole.mark).next().unwrap_or(text));
    let head = head.trim_start();
    let starts = |start: &str| head.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
    // A base that is no more than a host is shared with other links.
    let ours = |base: &str| starts(base) && (has_path(base) || head.len() == base.len());
    let asks =
        |tag: &Tag| words(tag.inside()).any(|word| matches!(word, "unsubscribe_url" | "unsubscribe_token"));
    (starts("http://") || starts("https://"))
        && !link.iter().filter_map(as_tag).any(asks)
        && !wanted.leave.base_url.into_iter().chain([wanted.base_url]).any(ours)
        && !wanted.leave.url.is_some_and(|url| leads_there(link, head, url))
}

/// Whether a link is what the template `url` makes, or begins with as much of it as is the same for all,
/// if that is more than a host.
fn leads_there(link: &[Piece], head: &str, url: &str) -> bool {
    let normal = |pieces: &[Piece]| {
        let texts = pieces.iter().map(|piece| match piece {
            Piece::Text(text) => decoded(text),
            Piece::Tag(tag) => tag.text.split_whitespace().collect(),
        });
        texts.collect::<String>().trim().to_owned()
    };
    let url = pieces::cut("unsubscribe url", url.trim());
    let Some(Piece::Text(fixed)) = url.first() else { return normal(link) == normal(&url) };
    normal(link) == normal(&url)
        || (has_path(fixed) && head.get(..fixed.len()).is_some_and(|head| head.eq_ignore_ascii_case(fixed)))
}

/// Whether more follows than scheme and host.
fn has_path(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_once('/').is_some_and(|(_, path)| !path.is_empty()) || rest.contains('?')
}

/// Copies a template but for what is replaced.
struct Editor<'a> {
    whole: &'a Whole<'a>,
    out: Vec<Piece>,
    written: usize,
}

impl Editor<'_> {
    /// Copies up to `range` and leaves that out.
    fn replace(&mut self, range: Range<usize>) {
        self.whole.copy(self.written..range.start, &mut self.out);
        self.written = range.end;
    }

    fn text(&mut self, text: &str) {
        pieces::push_text(&mut self.out, text);
    }

    fn variable(&mut self, variable: &str, name: &str) {
        let origin = self.whole.origin(&(self.written..self.written), name);
        self.out.push(output(variable, origin));
    }
}

enum Edit {
    /// The inside of an `href`.
    Link(Range<usize>),
    /// A `data-no-track`.
    Mark(Range<usize>),
    Pixel(usize),
}

impl Edit {
    fn start(&self) -> usize {
        match self {
            Self::Link(range) | Self::Mark(range) => range.start,
            Self::Pixel(at) => *at,
        }
    }
}

fn edits(anchor: Anchor) -> Vec<Edit> {
    let marked = !anchor.marks.is_empty();
    let links = anchor.links.into_iter().filter(|_| !marked).map(Edit::Link);
    links.chain(anchor.marks.into_iter().map(Edit::Mark)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::flatten;
    use crate::message::pieces::Source;

    fn rewritten(html: &str, leave: Leave<'_>) -> Result<(String, Vec<String>), String> {
        let flat = flatten::flatten(None, "f", html).unwrap();
        let wanted = Wanted { base_url: "https://t.test/?a&t=", click: Some("c"), open: None, leave };
        let (flat, links) = rewrite("f", &flat, &wanted, None).map_err(|error| error.to_string())?;
        let text = |flat: &Flat| Source::of(&flat.pieces).text;
        Ok((text(&flat), links.iter().map(text).collect()))
    }

    #[test]
    fn only_addresses_of_web_links_change() {
        let html = "<a\nclass='x' HREF=\" https://x.test/{{ id }}?a=1&amp;b=2\" data-x>1</a>\
            <a href=http://y.test/p>2</a><a title='>' href='https://z.test/{% if a > 1 %}b{% endif %}'/>\
            <a {% if a %}href=\"https://p.test\"{% else %}href='https://q.test'{% endif %}>\
            <a href='mailto:a@b.test'><a href='#top'><a href='tel:1'><a href=\"cid:x\"><a href='{{ url }}'>\
            <a name=x><abbr href='https://x.test'><area href='https://x.test'><link href='https://x.test'>\
            <!-- <a href='https://x.test'> --><script>'<a href=\"https://x.test\">'</script>\
            a < b <a href='//x.test'><p title=\"<a href='https://x.test'>\">";
        let (text, links) = rewritten(html, Leave::default()).unwrap();
        let expected = [
            " https://x.test/{{ id }}?a=1&amp;b=2",
            "http://y.test/p",
            "https://z.test/{% if a > 1 %}b{% endif %}",
            "https://p.test",
            "https://q.test",
        ];
        assert_eq!(links, expected);
        let mut undone = text;
        for (number, link) in expected.iter().enumerate() {
            undone = undone.replace(&format!("https://t.test/?a&amp;t={{{{ c{number} }}}}"), link);
        }
        assert_eq!(undone, html);
    }

    #[test]
    fn ways_out_of_the_list_and_marked_links_stay() {
        let stays = |html: &str, leave: Leave<'_>| {
            let (text, links) = rewritten(html, leave).unwrap();
            assert!(links.is_empty(), "{html}");
            text
        };
        let own = || Leave { base_url: None, url: Some("https://l.test/u/{{ id }}?x=1&y={{ a|upper }}") };
        for link in [
            "https://l.test/u/{{id}}?x=1&amp;y={{ a | upper }}",
            "https://l.test/u/{{ other }}",
            "HTTPS://L.test/u/",
        ] {
            let html = format!("<a href=\"{link}\">");
            assert_eq!(stays(&html, own()), html);
        }
        for (link, url) in [
            ("https://l.test/{{id}}", "https://l.test/{{ id }}"),
            ("https://l.test/a?b", "https://l.test/a?b"),
        ] {
            let html = format!("<a href=\"{link}\">");
            assert_eq!(stays(&html, Leave { base_url: None, url: Some(url) }), html);
        }
        let (_, links) = rewritten(
            "<a href='https://l.test/x'>",
            Leave { base_url: None, url: Some("https://l.test/{{ id }}") },
        )
        .unwrap();
        assert_eq!(links, ["https://l.test/x"]);
        for link in [
            "{{ unsubscribe_url }}",
            "https://o.test/u/{{ id }}",
            "https://x.test/{{ unsubscribe_token }}",
            "https://t.test/?a&amp;t=1",
        ] {
            let html = format!("<a href=\"{link}\">");
            assert_eq!(stays(&html, Leave { base_url: Some("https://o.test/u/"), url: None }), html);
        }
        let host = Leave { base_url: Some("https://o.test/"), url: None };
        let (_, links) =
            rewritten("<a href='https://o.test/{{ id }}'><a href='https://o.test/shop'>", host).unwrap();
        assert_eq!(links, ["https://o.test/shop"]);
        for (marked, plain) in [
            ("<a data-no-track href='https://x.test'>", "<a href='https://x.test'>"),
            ("<a href='https://x.test' DATA-NO-TRACK=\"1\" id=a>", "<a href='https://x.test' id=a>"),
            ("<a href='https://x.test'\n data-no-track >", "<a href='https://x.test' >"),
            ("<a href='https://x.test' data-no-track={{ id }}>", "<a href='https://x.test'>"),
        ] {
            assert_eq!(stays(marked, Leave::default()), plain);
        }
    }

    #[test]
    fn a_link_that_only_its_place_knows_is_refused() {
        for html in [
            "{% for x in [1] %}\n<a href='https://x.test/{{ x }}'>{% endfor %}",
            "{% for x in [1] %}\n<a href='https://x.test/{{ loop.index }}'>{% endfor %}",
            "{% set x = id %}\n<a href='https://x.test/{% if x %}1{% endif %}'>",
            "{% macro m(x) %}\n<a href='https://x.test/{{ x }}'>{% endmacro %}",
            "{% with x = 1 %}\n<a href='https://x.test/{{ x|upper }}'>{% endwith %}",
        ] {
            let error = rewritten(html, Leave::default()).unwrap_err();
            assert!(error.starts_with("template f, line 2: a tracked link cannot hold `"), "{error}");
            rewritten(&html.replace("<a ", "<a data-no-track "), Leave::default()).unwrap();
        }
    }

    #[test]
    fn the_picture_stands_before_the_end_of_the_body() {
        let put = |html: &str| {
            let flat = flatten::flatten(None, "f", html).unwrap();
            let leave = Leave::default();
            let wanted = Wanted { base_url: "https://t.test/o/", click: None, open: Some("o"), leave };
            Source::of(&rewrite("f", &flat, &wanted, None).unwrap().0.pieces).text
        };
        let picture =
            "<img src=\"https://t.test/o/{{ o }}\" width=\"1\" height=\"1\" alt=\"\" style=\"border:0\">";
        assert_eq!(put("<p>a</p>\n"), format!("<p>a</p>\n{picture}"));
        assert_eq!(
            put("<body><!-- </body> -->{{ x }}<a href='https://x.test'></BODY></html>"),
            format!("<body><!-- </body> -->{{{{ x }}}}<a href='https://x.test'>{picture}</BODY></html>")
        );
        assert_eq!(
            put("<p title='</body>'>{% if x %}a{% endif %}"),
            format!("<p title='</body>'>{{% if x %}}a{{% endif %}}{picture}")
        );
    }

    #[test]
    fn links_of_imported_macros_are_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let flat = flatten::flatten(Some(&folder), "f", "\n{% import 'm' as m %}{{ m.m() }}").unwrap();
        let wanted =
            Wanted { base_url: "https://t.test/", click: Some("c"), open: None, leave: Leave::default() };
        for (text, is_refused) in [
            ("{% macro m() %}<a href='https://x.test'>x</a>{% endmacro %}", true),
            ("{% macro m() %}<A\n HREF='https://x.test'>x</A>{% endmacro %}", true),
            ("{% macro m() %}<abbr title='href'>x</abbr>{% endmacro %}", false),
        ] {
            std::fs::write(temporary.path().join("m"), text).unwrap();
            let rewritten = rewrite("f", &flat, &wanted, Some(&folder)).map_err(|error| error.to_string());
            assert_eq!(rewritten.is_err(), is_refused, "{text}");
            assert!(
                rewritten.err().is_none_or(|error| error.starts_with("template f, line 2: `m` has links"))
            );
        }
    }

    #[test]
    fn a_target_is_what_a_browser_follows() {
        assert_eq!(
            target(" https:&#x2f;&#47;x.test\n/?a=1&amp;b=&quot;&copy=2&#xD800;&\t "),
            "https://x.test/?a=1&b=\"&copy=2&#xD800;&"
        );
    }
}
