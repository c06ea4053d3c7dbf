//! How eight languages write dates, numbers and money; facts of the Unicode CLDR.
//!
//! A locale is a language (`de`), or a language as one country writes it (`en-GB`, `pt-BR`); a country
//! that is not here is written as its language. Data only: `filters` applies it.

/// One language's ways. Weeks start on Monday; patterns are those of strftime.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Locale {
    pub tag: &'static str,
    /// Beside a day: some languages bend the name.
    pub months: [&'static str; 12],
    pub months_alone: [&'static str; 12],
    pub months_short: [&'static str; 12],
    pub days: [&'static str; 7],
    pub days_short: [&'static str; 7],
    pub short: &'static str,
    pub medium: &'static str,
    pub long: &'static str,
    pub full: &'static str,
    pub time: &'static str,
    pub decimal: &'static str,
    pub group: &'static str,
    /// Digits before the decimal mark from which groups are made.
    pub grouped_from: usize,
    pub money: Money,
    /// Of the US dollar, which is not `$` everywhere.
    pub dollar: &'static str,
}

/// Where a currency's symbol stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Money {
    /// `$1.00`, `-$1.00`; a code is set off by a blank.
    Before,
    /// `R$ 1,00`, `-R$ 1,00`
    BeforeApart,
    /// `€ 1,00`, `€ -1,00`
    BeforeSign,
    /// `1,00 €`
    After,
}

/// The locale of a tag like `de`, `de-AT` or `de_AT`.
pub(super) fn find(tag: &str) -> Option<&'static Locale> {
    let tag = tag.replace('_', "-");
    let language = tag.split('-').next().unwrap_or_default();
    let by = |tag: &str| LOCALES.iter().find(|locale| locale.tag.eq_ignore_ascii_case(tag));
    by(&tag).or_else(|| by(language))
}

/// For messages.
pub(super) fn known() -> String {
    LOCALES.iter().map(|locale| locale.tag).collect::<Vec<_>>().join(", ")
}

const ENGLISH_MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const GERMAN_MONTHS: [&str; 12] = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
];
const FRENCH_MONTHS: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];
const SPANISH_MONTHS: [&str; 12] = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
];
const ITALIAN_MONTHS: [&str; 12] = [
    "gennaio",
    "febbraio",
    "marzo",
    "aprile",
    "maggio",
    "giugno",
    "luglio",
    "agosto",
    "settembre",
    "ottobre",
    "novembre",
    "dicembre",
];
const PORTUGUESE_MONTHS: [&str; 12] = [
    "janeiro",
    "fevereiro",
    "março",
    "abril",
    "maio",
    "junho",
    "julho",
    "agosto",
    "setembro",
    "outubro",
    "novembro",
    "dezembro",
];
const DUTCH_MONTHS: [&str; 12] = [
    "januari",
    "februari",
    "maart",
    "april",
    "mei",
    "juni",
    "juli",
    "augustus",
    "september",
    "oktober",
    "november",
    "december",
];
const POLISH_MONTHS: [&str; 12] = [
    "stycznia",
    "lutego",
    "marca",
    "kwietnia",
    "maja",
    "czerwca",
    "lipca",
    "sierpnia",
    "września",
    "października",
    "listopada",
    "grudnia",
];
const POLISH_MONTHS_ALONE: [&str; 12] = [
    "styczeń",
    "luty",
    "marzec",
    "kwiecień",
    "maj",
    "czerwiec",
    "lipiec",
    "sierpień",
    "wrzesień",
    "październik",
    "listopad",
    "grudzień",
];

const ENGLISH: Locale = Locale {
    tag: "en",
    months: ENGLISH_MONTHS,
    months_alone: ENGLISH_MONTHS,
    months_short: ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    days: ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    days_short: ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
    short: "%-m/%-d/%y",
    medium: "%b %-d, %Y",
    long: "%B %-d, %Y",
    full: "%A, %B %-d, %Y",
    time: "%-I:%M %p",
    decimal: ".",
    group: ",",
    grouped_from: 4,
    money: Money::Before,
    dollar: "$",
};

static LOCALES: [Locale; 10] = [
    ENGLISH,
    Locale {
        tag: "en-GB",
        months_short: ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sept", "Oct", "Nov", "Dec"],
        short: "%d/%m/%Y",
        medium: "%-d %b %Y",
        long: "%-d %B %Y",
        full: "%A, %-d %B %Y",
        time: "%H:%M",
        dollar: "US$",
        ..ENGLISH
    },
    Locale {
        tag: "de",
        months: GERMAN_MONTHS,
        months_alone: GERMAN_MONTHS,
        months_short: [
            "Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez.",
        ],
        days: ["Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"],
        days_short: ["Mo.", "Di.", "Mi.", "Do.", "Fr.", "Sa.", "So."],
        short: "%d.%m.%y",
        medium: "%d.%m.%Y",
        long: "%-d. %B %Y",
        full: "%A, %-d. %B %Y",
        time: "%H:%M",
        decimal: ",",
        group: ".",
        grouped_from: 4,
        money: Money::After,
        dollar: "$",
    },
    Locale {
        tag: "fr",
        months: FRENCH_MONTHS,
        months_alone: FRENCH_MONTHS,
        months_short: [
            "janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc.",
        ],
        days: ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"],
        days_short: ["lun.", "mar.", "mer.", "jeu.", "ven.", "sam.", "dim."],
        short: "%d/%m/%Y",
        medium: "%-d %b %Y",
        long: "%-d %B %Y",
        full: "%A %-d %B %Y",
        time: "%H:%M",
        decimal: ",",
        group: "\u{202f}",
        grouped_from: 4,
        money: Money::After,
        dollar: "$US",
    },
    Locale {
        tag: "es",
        months: SPANISH_MONTHS,
        months_alone: SPANISH_MONTHS,
        months_short: ["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sept", "oct", "nov", "dic"],
        days: ["lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"],
        days_short: ["lun", "mar", "mié", "jue", "vie", "sáb", "dom"],
        short: "%-d/%-m/%y",
        medium: "%-d %b %Y",
        long: "%-d de %B de %Y",
        full: "%A, %-d de %B de %Y",
        time: "%-H:%M",
        decimal: ",",
        group: ".",
        grouped_from: 5,
        money: Money::After,
        dollar: "US$",
    },
    Locale {
        tag: "it",
        months: ITALIAN_MONTHS,
        months_alone: ITALIAN_MONTHS,
        months_short: ["gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"],
        days: ["lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica"],
        days_short: ["lun", "mar", "mer", "gio", "ven", "sab", "dom"],
        short: "%d/%m/%y",
        medium: "%-d %b %Y",
        long: "%-d %B %Y",
        full: "%A %-d %B %Y",
        time: "%H:%M",
        decimal: ",",
        group: ".",
        grouped_from: 5,
        money: Money::After,
        dollar: "USD",
    },
    PORTUGUESE,
    Locale {
        tag: "pt-PT",
        short: "%d/%m/%y",
        medium: "%d/%m/%Y",
        group: "\u{a0}",
        grouped_from: 5,
        money: Money::After,
        ..PORTUGUESE
    },
    Locale {
        tag: "nl",
        months: DUTCH_MONTHS,
        months_alone: DUTCH_MONTHS,
        months_short: ["jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"],
        days: ["maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag", "zondag"],
        days_short: ["ma", "di", "wo", "do", "vr", "za", "zo"],
        short: "%d-%m-%Y",
        medium: "%-d %b %Y",
        long: "%-d %B %Y",
        full: "%A %-d %B %Y",
        time: "%H:%M",
        decimal: ",",
        group: ".",
        grouped_from: 4,
        money: Money::BeforeSign,
        dollar: "US$",
    },
    Locale {
        tag: "pl",
        months: POLISH_MONTHS,
        months_alone: POLISH_MONTHS_ALONE,
        months_short: ["sty", "lut", "mar", "kwi", "maj", "cze", "lip", "sie", "wrz", "paź", "lis", "gru"],
        days: ["poniedziałek", "wtorek", "środa", "czwartek", "piątek", "sobota", "niedziela"],
        days_short: ["pon.", "wt.", "śr.", "czw.", "pt.", "sob.", "niedz."],
        short: "%-d.%m.%Y",
        medium: "%-d %b %Y",
        long: "%-d %B %Y",
        full: "%A, %-d %B %Y",
        time: "%H:%M",
        decimal: ",",
        group: "\u{a0}",
        grouped_from: 5,
        money: Money::After,
        dollar: "USD",
    },
];

/// As Brazil writes it.
const PORTUGUESE: Locale = Locale {
    tag: "pt",
    months: PORTUGUESE_MONTHS,
    months_alone: PORTUGUESE_MONTHS,
    months_short: [
        "jan.", "fev.", "mar.", "abr.", "mai.", "jun.", "jul.", "ago.", "set.", "out.", "nov.", "dez.",
    ],
    days: [
        "segunda-feira",
        "terça-feira",
        "quarta-feira",
        "quinta-feira",
        "sexta-feira",
        "sábado",
        "domingo",
    ],
    days_short: ["seg.", "ter.", "qua.", "qui.", "sex.", "sáb.", "dom."],
    short: "%d/%m/%Y",
    medium: "%-d de %b de %Y",
    long: "%-d de %B de %Y",
    full: "%A, %-d de %B de %Y",
    time: "%H:%M",
    decimal: ",",
    group: ".",
    grouped_from: 4,
    money: Money::BeforeApart,
    dollar: "US$",
};
