//! Which bytes of a file a request is about: RFC 9110, 13.1.5 and 14.1 to 14.2. Firmware, curl and
//! cloud-init ask for one range at a time, to go on with a download that broke off. What a server may
//! ignore is ignored: then the whole file is the answer, with which every client can go on.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderValue, header};

/// What is to be sent of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Requested {
    /// All of it, as if no range had been asked for.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// A range that begins after the file's end.
    Beyond,
}

/// What these headers ask for of a file of `total` bytes that was changed at `last_modified`.
pub(super) fn requested(
    headers: &HeaderMap,
    last_modified: Option<&HeaderValue>,
    total: u64,
) -> Requested {
    // Two ranges that contradict each other are as good as none.
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Requested::Whole };
    // Who has a part of another file must not be given the rest of this one. No file has an entity
    // tag, so a condition that names one does not hold.
    if headers.get_all(header::IF_RANGE).iter().any(|known| Some(known) != last_modified) {
        return Requested::Whole;
    }
    range.to_str().ok().and_then(|text| parse(text, total)).unwrap_or(Requested::Whole)
}

/// `bytes=0-99`, `bytes=100-` or `bytes=-100`; `None` for other units, several ranges and nonsense.
fn parse(text: &str, total: u64) -> Option<Requested> {
    let (unit, ranges) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
    let (range, None) = (ranges.next()?, ranges.next()) else { return None };
    let range = match range.split_once('-')? {
        // The last bytes of nothing are all that there is, which `Content-Range` cannot say.
        ("", _) if total == 0 => return None,
        ("", length) => total.saturating_sub(number(length)?)..total,
        (first, "") => number(first)?..total,
        (first, last) if number(last)? < number(first)? => return None,
        (first, last) => number(first)?..number(last)?.saturating_add(1).min(total),
    };
    Some(if range.is_empty() { Requested::Beyond } else { Requested::Part(range) })
}

/// Digits and nothing else. What is larger than any file is as good as the largest number.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_and_everything_else_is_the_whole_file() {
        use Requested::{Beyond, Part, Whole};
        for (text, expected) in [
            ("bytes=0-4", Part(0..5)),
            ("bytes=9-9", Part(9..10)),
            ("bytes=2-", Part(2..10)),
            ("bytes=5-99", Part(5..10)),
            ("bytes=0-99999999999999999999999", Part(0..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-10", Part(0..10)),
            ("bytes=-30", Part(0..10)),
            ("Bytes= 0-4 ,", Part(0..5)),
            ("bytes=10-", Beyond),
            ("bytes=10-12", Beyond),
            ("bytes=99999999999999999999999-", Beyond),
            ("bytes=-0", Beyond),
            ("items=0-1", Whole),
            ("bytes=0-1,4-5", Whole),
            ("bytes=4-2", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1--2", Whole),
            ("bytes=a-", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("", Whole),
        ] {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(requested(&headers, None, 10), expected, "{text}");
        }
        assert_eq!(requested(&HeaderMap::new(), None, 10), Whole);
    }

    #[test]
    fn an_empty_file_has_no_part() {
        for (text, expected) in [("bytes=0-", Requested::Beyond), ("bytes=-5", Requested::Whole)] {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(requested(&headers, None, 0), expected, "{text}");
        }
    }

    #[test]
    fn a_part_is_sent_only_of_the_file_that_the_client_knows() {
        let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        for (known, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Requested::Part(2..10)),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Requested::Whole),
            ("\"tag\"", Requested::Whole),
            ("nonsense", Requested::Whole),
        ] {
            let headers = HeaderMap::from_iter([
                (header::RANGE, HeaderValue::from_static("bytes=2-")),
                (header::IF_RANGE, HeaderValue::from_static(known)),
            ]);
            assert_eq!(requested(&headers, Some(&date), 10), expected, "{known}");
        }
    }

    #[test]
    fn two_ranges_in_two_headers_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        headers.append(header::RANGE, HeaderValue::from_static("bytes=4-5"));
        assert_eq!(requested(&headers, None, 10), Requested::Whole);
    }
}
