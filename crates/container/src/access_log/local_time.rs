//! Times as lines of a log have them: local time, English names. The second is looked up once, since most lines share it.
//!
//! Called by `format`, on the writer's thread.

use std::io::Write as _;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use serval_config::{DateField, DateItem, TimeFormat};

use super::format::unicode;

const MONTHS: [&str; 12] = [
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
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The last second that was written.
pub struct LocalTime {
    zone: fn() -> TimeZone,
    second: ZonedDateTime,
    /// It, as [`TimeFormat::CommonLog`] has it.
    common_log: Vec<u8>,
}

impl LocalTime {
    /// `zone` is asked for each new second: the zone of a machine may change while it runs.
    pub fn new(zone: fn() -> TimeZone) -> LocalTime {
        let second = Timestamp::UNIX_EPOCH.to_zoned_datetime(zone());
        LocalTime { zone, common_log: common_log(&second), second }
    }

    pub fn write(&mut self, time: Timestamp, format: &TimeFormat, out: &mut Vec<u8>) {
        let millis = time.subsec_millisecond().unsigned_abs();
        if time.as_second() != self.second.timestamp().as_second() {
            self.second = time.to_zoned_datetime((self.zone)());
            self.common_log = common_log(&self.second);
        }
        match format {
            TimeFormat::CommonLog => out.extend_from_slice(&self.common_log),
            TimeFormat::Seconds => number(time.as_second(), 1, out),
            TimeFormat::Millis => number(time.as_millisecond(), 1, out),
            TimeFormat::MillisOfSecond => number(millis.into(), 3, out),
            TimeFormat::Pattern(items) => {
                for item in items {
                    match item {
                        DateItem::Text(text) => unicode(Some(text.as_bytes()), out),
                        DateItem::Field { field, width } => self.field(*field, *width, millis, out),
                    }
                }
            }
        }
    }

    fn field(&self, field: DateField, width: usize, millis: u32, out: &mut Vec<u8>) {
        let now = &self.second;
        let name = |name: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(if width < 4 { &name.as_bytes()[..3] } else { name.as_bytes() });
        };
        let hour = i64::from(now.hour());
        let value = match field {
            DateField::Era => return out.extend_from_slice(b"AD"),
            DateField::Year if width == 2 => i64::from(now.year()) % 100,
            DateField::Year => now.year().into(),
            DateField::Month if width >= 3 => return name(MONTHS[now.month() as usize - 1], out),
            DateField::Month => now.month().into(),
            DateField::DayOfYear => now.day_of_year().into(),
            DateField::Day => now.day().into(),
            DateField::WeekdayInMonth => i64::from((now.day() - 1) / 7 + 1),
            DateField::WeekdayName => return name(WEEKDAYS[weekday(now) as usize - 1], out),
            DateField::Weekday => weekday(now).into(),
            DateField::AmPm => return out.extend_from_slice(if hour < 12 { b"AM" } else { b"PM" }),
            DateField::Hour => hour,
            DateField::Hour24 => (hour + 23) % 24 + 1,
            DateField::Hour0 => hour % 12,
            DateField::Hour12 => (hour + 11) % 12 + 1,
            DateField::Minute => now.minute().into(),
            DateField::Second => now.second().into(),
            DateField::Millisecond => millis.into(),
            DateField::ZoneName => {
                let info = now.time_zone().to_offset_info(now.timestamp());
                return out.extend_from_slice(info.abbreviation().as_bytes());
            }
            DateField::Offset => return offset(now, "", out),
            DateField::IsoOffset if now.offset().seconds() == 0 => return out.push(b'Z'),
            DateField::IsoOffset if width == 1 => {
                let from = out.len();
                offset(now, "", out);
                return out.truncate(from + 3);
            }
            DateField::IsoOffset => return offset(now, if width == 2 { "" } else { ":" }, out),
        };
        number(value, width, out);
    }
}

fn common_log(now: &ZonedDateTime) -> Vec<u8> {
    let mut out = Vec::with_capacity(28);
    let month = &MONTHS[now.month() as usize - 1][..3];
    let (day, year, hour, minute, second) = (now.day(), now.year(), now.hour(), now.minute(), now.second());
    let _ = write!(out, "[{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} ");
    offset(now, "", &mut out);
    out.push(b']');
    out
}

fn weekday(now: &ZonedDateTime) -> i8 {
    now.weekday().to_monday_one_offset()
}

fn offset(now: &ZonedDateTime, between: &str, out: &mut Vec<u8>) {
    let seconds = now.offset().seconds();
    let minutes = seconds.unsigned_abs() / 60;
    let sign = if seconds < 0 { '-' } else { '+' };
    let _ = write!(out, "{sign}{:02}{between}{:02}", minutes / 60, minutes % 60);
}

fn number(value: i64, width: usize, out: &mut Vec<u8>) {
    let _ = write!(out, "{value:0width$}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serval_config::{LogItem, LogPattern, LogValue};

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[track_caller]
    fn check(millis: i64, key: &str, expected: &str) {
        let LogPattern(items) = LogPattern::parse(&format!("%{{{key}}}t")).unwrap();
        let [LogItem::Code { value: LogValue::Time { format, .. }, .. }] = &items[..] else { panic!("{key}: no time") };
        let mut out = Vec::new();
        LocalTime::new(berlin).write(Timestamp::from_millisecond(millis).unwrap(), format, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{key}");
    }

    #[test]
    fn all_formats() {
        // A Tuesday in summer, a little past noon; and a winter's midnight.
        let (summer, winter) = (1_782_815_405_007, 1_798_758_000_000);
        for (key, expected) in [
            ("", "[30/Jun/2026:12:30:05 +0200]"),
            ("sec", "1782815405"),
            ("msec", "1782815405007"),
            ("msec_frac", "007"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2026-06-30T12:30:05.007+02:00"),
            ("yy M L d H k K h m s S SS", "26 6 6 30 12 12 0 12 30 5 7 07"),
            ("G MMM MMMM EEE EEEE u F D a", "AD Jun June Tue Tuesday 2 5 181 PM"),
            ("z Z X XX XXX", "CEST +0200 +02 +0200 +02:00"),
            ("DDDD ''yyyyy'' '\"'", "0181 '02026' \\\""),
        ] {
            check(summer, key, expected);
        }
        check(winter, "", "[01/Jan/2027:00:00:00 +0100]");
        check(winter, "H k K h a z", "0 24 0 12 AM CET");
    }

    #[test]
    fn the_zone_of_the_machine_counts_as_it_is_now() {
        let mut out = Vec::new();
        let mut time = LocalTime::new(|| TimeZone::UTC);
        time.write(Timestamp::from_second(1).unwrap(), &TimeFormat::CommonLog, &mut out);
        time.zone = berlin;
        time.write(Timestamp::from_second(2).unwrap(), &TimeFormat::CommonLog, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "[01/Jan/1970:00:00:01 +0000][01/Jan/1970:01:00:02 +0100]");
        out.clear();
        time.zone = || TimeZone::UTC;
        let pattern = TimeFormat::Pattern(vec![DateItem::Field { field: DateField::IsoOffset, width: 3 }]);
        time.write(Timestamp::from_second(3).unwrap(), &pattern, &mut out);
        assert_eq!(out, b"Z");
    }
}
