//! The pattern of an access log's lines: Tomcat's codes (SEMANTICS 21; `valves/AbstractAccessLogValve`).
//!
//! Read here, once, and interpreted by the container for each request.

/// What `common` stands for.
const COMMON: &str = "%h %l %u %t \"%r\" %s %b";
/// What `combined` stands for.
const COMBINED: &str = "%h %l %u %t \"%r\" %s %b \"%{Referer}i\" \"%{User-Agent}i\"";

/// A pattern, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPattern(pub Vec<LogItem>);

/// One piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// As it stands.
    Text(String),
    /// `%c`, or `%{key}c`. Code and key name it in the JSON form.
    Code { code: char, key: Option<String>, value: LogValue },
}

/// What a code stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogValue {
    /// `%a`, `%{remote}a`: the client's address.
    RemoteAddress,
    /// `%{peer}a`: the address that the connection came from.
    PeerAddress,
    /// `%A`
    LocalAddress,
    /// `%h`: the client's address, since names are not looked up.
    RemoteHost,
    /// `%v`
    ServerName,
    /// `%p`, `%{local}p`
    LocalPort,
    /// `%{remote}p`
    RemotePort,
    /// `%{c}L`: a number for each connection.
    ConnectionId,
    /// `%l`: always `-`.
    LogicalUser,
    /// `%u`
    User,
    /// `%H`
    Protocol,
    /// `%m`
    Method,
    /// `%r`
    RequestLine,
    /// `%U`: as it was sent, without the query.
    Path,
    /// `%q`: with its `?`; `-` when there is none.
    Query,
    /// `%s`
    Status,
    /// `%b`: bytes of the body that were sent; `-` for none.
    BytesOrDash,
    /// `%B`: the same; `0` for none.
    Bytes,
    /// `%D`, `%T`, `%{unit}T`: from the first byte of the request to the last of the response.
    Taken(TimeUnit),
    /// `%F`: milliseconds until the response was committed.
    Committed,
    /// `%t`, `%{format}t`
    Time { at: Moment, format: TimeFormat },
    /// `%I`: the name of the thread that took the request in.
    Thread,
    /// `%S`
    SessionId,
    /// `%X`: `X` the connection was aborted before the response was sent, `+` it is kept, `-` it is closed.
    ConnectionState,
    /// `%{name}i`, in lower case.
    RequestHeader(String),
    /// `%{name}o`, in lower case.
    ResponseHeader(String),
    /// `%{name}c`
    Cookie(String),
    /// `%{name}r`
    RequestAttribute(String),
    /// `%{name}s`
    SessionAttribute(String),
    /// A code that nobody knows: the question marks that Tomcat writes.
    Unknown(String),
}

/// How a time taken is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
    /// Seconds and three digits behind a point.
    SecondsAndMillis,
}

/// Which time of a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// `begin:`
    Begin,
    /// `end:`, and without either.
    End,
}

/// How a time is written; in local time, with English names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    /// `[31/Dec/2026:23:59:59 +0100]`
    CommonLog,
    /// `sec`: seconds since 1970.
    Seconds,
    /// `msec`: milliseconds since 1970.
    Millis,
    /// `msec_frac`: the milliseconds of the second, three digits.
    MillisOfSecond,
    /// The letters of Java's `SimpleDateFormat`.
    Pattern(Vec<DateItem>),
}

/// One piece of a date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DateItem {
    Text(String),
    /// A letter that was written `width` times.
    Field {
        field: DateField,
        width: usize,
    },
}

/// What a letter of a date pattern stands for. Numbers have at least `width` digits; names are short below a width of 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateField {
    /// `G`
    Era,
    /// `y`; its last two digits with a width of 2.
    Year,
    /// `M`, `L`; a name from a width of 3 on.
    Month,
    /// `D`
    DayOfYear,
    /// `d`
    Day,
    /// `F`: the first Tuesday of the month is 1.
    WeekdayInMonth,
    /// `E`
    WeekdayName,
    /// `u`: Monday is 1.
    Weekday,
    /// `a`
    AmPm,
    /// `H`: 0 to 23.
    Hour,
    /// `k`: 1 to 24.
    Hour24,
    /// `K`: 0 to 11.
    Hour0,
    /// `h`: 1 to 12.
    Hour12,
    /// `m`
    Minute,
    /// `s`
    Second,
    /// `S`
    Millisecond,
    /// `z`: as in `CET`.
    ZoneName,
    /// `Z`: as in `+0100`.
    Offset,
    /// `X`: `+01`, `+0100` or `+01:00` by its width; `Z` for UTC.
    IsoOffset,
}

/// LIMIT: digits of a number in a date; more are a slip.
const DATE_WIDTH_MAX: usize = 16;

impl LogPattern {
    /// Reads `common`, `combined`, or codes. As in Tomcat, a code that is not known is no error but shows in the log.
    ///
    /// # Errors
    /// A date pattern with letters that mean nothing; says what to write.
    pub fn parse(text: &str) -> Result<LogPattern, String> {
        let text = match text {
            "common" => COMMON,
            "combined" => COMBINED,
            text => text,
        };
        let mut items = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars();
        while let Some(char) = rest.next() {
            if char != '%' {
                plain.push(char);
                continue;
            }
            let Some((code, key)) = next_code(&mut rest) else { break };
            if code == '%' && key.is_none() {
                plain.push('%');
                continue;
            }
            if !plain.is_empty() {
                items.push(LogItem::Text(std::mem::take(&mut plain)));
            }
            let value = match &key {
                Some(key) => keyed(code, key)?,
                None => simple(code),
            };
            items.push(LogItem::Code { code, key, value });
        }
        if !plain.is_empty() {
            items.push(LogItem::Text(plain));
        }
        Ok(LogPattern(items))
    }
}

/// What stands behind a `%`: a code, and its key. A `{` without an end, or with no code behind it, is itself the code.
fn next_code(rest: &mut std::str::Chars) -> Option<(char, Option<String>)> {
    let code = rest.next()?;
    if code == '{'
        && let Some((key, behind)) = rest.as_str().split_once('}')
        && let Some(code) = behind.chars().next()
    {
        let key = key.to_owned();
        *rest = behind[code.len_utf8()..].chars();
        return Some((code, Some(key)));
    }
    Some((code, None))
}

fn simple(code: char) -> LogValue {
    match code {
        'a' => LogValue::RemoteAddress,
        'A' => LogValue::LocalAddress,
        'b' => LogValue::BytesOrDash,
        'B' => LogValue::Bytes,
        'D' => LogValue::Taken(TimeUnit::Microseconds),
        'F' => LogValue::Committed,
        'h' => LogValue::RemoteHost,
        'H' => LogValue::Protocol,
        'I' => LogValue::Thread,
        'l' => LogValue::LogicalUser,
        'm' => LogValue::Method,
        'p' => LogValue::LocalPort,
        'q' => LogValue::Query,
        'r' => LogValue::RequestLine,
        's' => LogValue::Status,
        'S' => LogValue::SessionId,
        't' => LogValue::Time { at: Moment::End, format: TimeFormat::CommonLog },
        'T' => LogValue::Taken(TimeUnit::Seconds),
        'u' => LogValue::User,
        'U' => LogValue::Path,
        'v' => LogValue::ServerName,
        'X' => LogValue::ConnectionState,
        other => LogValue::Unknown(format!("???{other}???")),
    }
}

/// A key that a code does not know is as good as none (Tomcat).
fn keyed(code: char, key: &str) -> Result<LogValue, String> {
    Ok(match code {
        'a' if key == "peer" => LogValue::PeerAddress,
        'a' => LogValue::RemoteAddress,
        'c' => LogValue::Cookie(key.to_owned()),
        'i' => LogValue::RequestHeader(key.to_ascii_lowercase()),
        'L' if key == "c" => LogValue::ConnectionId,
        'o' => LogValue::ResponseHeader(key.to_ascii_lowercase()),
        'p' if key == "remote" => LogValue::RemotePort,
        'p' => LogValue::LocalPort,
        'r' => LogValue::RequestAttribute(key.to_owned()),
        's' => LogValue::SessionAttribute(key.to_owned()),
        't' => time(key)?,
        'T' => LogValue::Taken(match key {
            "ns" => TimeUnit::Nanoseconds,
            "us" => TimeUnit::Microseconds,
            "ms" => TimeUnit::Milliseconds,
            "fracsec" => TimeUnit::SecondsAndMillis,
            _ => TimeUnit::Seconds,
        }),
        _ => LogValue::Unknown("???".to_owned()),
    })
}

fn time(key: &str) -> Result<LogValue, String> {
    let (at, format) = match (key, key.split_once(':')) {
        ("begin", _) => (Moment::Begin, ""),
        ("end", _) => (Moment::End, ""),
        (_, Some(("begin", format))) => (Moment::Begin, format),
        (_, Some(("end", format))) => (Moment::End, format),
        _ => (Moment::End, key),
    };
    let format = match format {
        "" => TimeFormat::CommonLog,
        "sec" => TimeFormat::Seconds,
        "msec" => TimeFormat::Millis,
        "msec_frac" => TimeFormat::MillisOfSecond,
        pattern => TimeFormat::Pattern(date(pattern)?),
    };
    Ok(LogValue::Time { at, format })
}

/// Reads a pattern of Java's `SimpleDateFormat`: letters are fields, text stands in `'`, and `''` is one of them.
fn date(pattern: &str) -> Result<Vec<DateItem>, String> {
    let mut items = Vec::new();
    let mut text = String::new();
    let mut quoted = false;
    let mut rest = pattern.chars().peekable();
    while let Some(char) = rest.next() {
        if char == '\'' {
            match rest.next_if_eq(&'\'') {
                Some(_) => text.push('\''),
                None => quoted = !quoted,
            }
            continue;
        }
        if quoted || !char.is_ascii_alphabetic() {
            text.push(char);
            continue;
        }
        let mut width = 1;
        while rest.next_if_eq(&char).is_some() {
            width += 1;
        }
        if !text.is_empty() {
            items.push(DateItem::Text(std::mem::take(&mut text)));
        }
        items.push(DateItem::Field { field: date_field(char, width)?, width });
    }
    if quoted {
        return Err(format!("the date pattern `{pattern}` opens a `'` and does not close it"));
    }
    if !text.is_empty() {
        items.push(DateItem::Text(text));
    }
    Ok(items)
}

fn date_field(letter: char, width: usize) -> Result<DateField, String> {
    if width > DATE_WIDTH_MAX || (letter == 'X' && width > 3) {
        return Err(format!("the date pattern repeats `{letter}` too often"));
    }
    Ok(match letter {
        'G' => DateField::Era,
        'y' => DateField::Year,
        'M' | 'L' => DateField::Month,
        'D' => DateField::DayOfYear,
        'd' => DateField::Day,
        'F' => DateField::WeekdayInMonth,
        'E' => DateField::WeekdayName,
        'u' => DateField::Weekday,
        'a' => DateField::AmPm,
        'H' => DateField::Hour,
        'k' => DateField::Hour24,
        'K' => DateField::Hour0,
        'h' => DateField::Hour12,
        'm' => DateField::Minute,
        's' => DateField::Second,
        'S' => DateField::Millisecond,
        'z' => DateField::ZoneName,
        'Z' => DateField::Offset,
        'X' => DateField::IsoOffset,
        'w' | 'W' | 'Y' => {
            return Err(format!("the date pattern counts weeks (`{letter}`), which differ by country: write days"));
        }
        _ => {
            return Err(format!(
                "the letter `{letter}` means nothing in a date pattern: put text in `'`, as in `yyyy-MM-dd'T'HH:mm:ss`"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn values(pattern: &str) -> Vec<LogValue> {
        let LogPattern(items) = LogPattern::parse(pattern).unwrap();
        let values = items.into_iter().filter_map(|item| match item {
            LogItem::Text(_) => None,
            LogItem::Code { value, .. } => Some(value),
        });
        values.collect()
    }

    #[track_caller]
    fn check(pattern: &str, expected: LogValue) {
        assert_eq!(values(pattern), [expected], "{pattern}");
    }

    fn text(text: &str) -> LogItem {
        LogItem::Text(text.to_owned())
    }

    #[test]
    fn every_code() {
        use LogValue::*;
        let clf = |at| Time { at, format: TimeFormat::CommonLog };
        for (pattern, expected) in [
            ("%a", RemoteAddress),
            ("%{remote}a", RemoteAddress),
            ("%{peer}a", PeerAddress),
            ("%{other}a", RemoteAddress),
            ("%A", LocalAddress),
            ("%b", BytesOrDash),
            ("%B", Bytes),
            ("%D", Taken(TimeUnit::Microseconds)),
            ("%F", Committed),
            ("%h", RemoteHost),
            ("%H", Protocol),
            ("%I", Thread),
            ("%l", LogicalUser),
            ("%{c}L", ConnectionId),
            ("%{x}L", Unknown("???".to_owned())),
            ("%m", Method),
            ("%p", LocalPort),
            ("%{local}p", LocalPort),
            ("%{remote}p", RemotePort),
            ("%q", Query),
            ("%r", RequestLine),
            ("%s", Status),
            ("%S", SessionId),
            ("%t", clf(Moment::End)),
            ("%{}t", clf(Moment::End)),
            ("%{end}t", clf(Moment::End)),
            ("%{begin}t", clf(Moment::Begin)),
            ("%{begin:}t", clf(Moment::Begin)),
            ("%{begin:sec}t", Time { at: Moment::Begin, format: TimeFormat::Seconds }),
            ("%{end:msec}t", Time { at: Moment::End, format: TimeFormat::Millis }),
            ("%{msec_frac}t", Time { at: Moment::End, format: TimeFormat::MillisOfSecond }),
            ("%T", Taken(TimeUnit::Seconds)),
            ("%{s}T", Taken(TimeUnit::Seconds)),
            ("%{ms}T", Taken(TimeUnit::Milliseconds)),
            ("%{us}T", Taken(TimeUnit::Microseconds)),
            ("%{ns}T", Taken(TimeUnit::Nanoseconds)),
            ("%{fracsec}T", Taken(TimeUnit::SecondsAndMillis)),
            ("%u", User),
            ("%U", Path),
            ("%v", ServerName),
            ("%X", ConnectionState),
            ("%{X-In}i", RequestHeader("x-in".to_owned())),
            ("%{X-Out}o", ResponseHeader("x-out".to_owned())),
            ("%{Ck}c", Cookie("Ck".to_owned())),
            ("%{at}r", RequestAttribute("at".to_owned())),
            ("%{at}s", SessionAttribute("at".to_owned())),
            ("%Z", Unknown("???Z???".to_owned())),
            ("%{k}Z", Unknown("???".to_owned())),
            ("%i", Unknown("???i???".to_owned())),
        ] {
            check(pattern, expected);
        }
    }

    #[test]
    fn text_between() {
        for (pattern, expected) in [
            ("", vec![]),
            ("%%", vec![text("%")]),
            ("a%%b", vec![text("a%b")]),
            ("100%", vec![text("100")]),
            ("a b", vec![text("a b")]),
        ] {
            assert_eq!(LogPattern::parse(pattern), Ok(LogPattern(expected)), "{pattern}");
        }
        let brace = LogItem::Code { code: '{', key: None, value: LogValue::Unknown("???{???".to_owned()) };
        assert_eq!(LogPattern::parse("%{a"), Ok(LogPattern(vec![brace.clone(), text("a")])));
        assert_eq!(LogPattern::parse("%{a}"), Ok(LogPattern(vec![brace, text("a}")])));
        let keyed =
            LogItem::Code { code: 'i', key: Some("A".to_owned()), value: LogValue::RequestHeader("a".to_owned()) };
        assert_eq!(LogPattern::parse("<%{A}i>"), Ok(LogPattern(vec![text("<"), keyed, text(">")])));
    }

    #[test]
    fn names_of_patterns() {
        assert_eq!(LogPattern::parse("common"), LogPattern::parse(COMMON));
        assert_eq!(LogPattern::parse("combined"), LogPattern::parse(COMBINED));
        assert_eq!(values("combined").len(), 9);
    }

    #[test]
    fn dates() {
        let field = |field, width| DateItem::Field { field, width };
        let expected = vec![
            field(DateField::Year, 4),
            DateItem::Text("-".to_owned()),
            field(DateField::Month, 2),
            DateItem::Text("T'o'".to_owned()),
            field(DateField::Millisecond, 3),
            field(DateField::IsoOffset, 3),
        ];
        assert_eq!(date("yyyy-MM'T''o'''SSSXXX"), Ok(expected));
        for (pattern, expected) in [
            ("yyyy'T", "the date pattern `yyyy'T` opens a `'` and does not close it"),
            ("XXXX", "the date pattern repeats `X` too often"),
            ("ww", "the date pattern counts weeks (`w`), which differ by country: write days"),
            (
                "yyyyTHH",
                "the letter `T` means nothing in a date pattern: put text in `'`, as in `yyyy-MM-dd'T'HH:mm:ss`",
            ),
        ] {
            assert_eq!(LogPattern::parse(&format!("%{{{pattern}}}t")), Err(expected.to_owned()));
        }
    }
}
