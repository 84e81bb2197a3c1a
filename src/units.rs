//! Amounts of memory as people read them.
//!
//! Memory is counted in powers of 1024 here, as QEMU, libvirt and the kernel do, and says so:
//! `MiB`, never `MB`.

#![expect(clippy::cast_precision_loss, reason = "three digits are shown")]

/// A binary unit, and what an amount is divided by to be shown in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit {
    /// The name, such as `MiB`.
    pub name: &'static str,
    /// How many bytes one of it has.
    pub bytes: u64,
}

impl Unit {
    /// The largest unit of which `bytes` has at least one.
    pub fn of(bytes: u64) -> Self {
        UNITS.into_iter().rev().find(|unit| bytes >= unit.bytes).unwrap_or(UNITS[0])
    }
}

/// An amount with three significant digits: `384 MiB`, `7.50 GiB`, `0 B`.
pub fn human_bytes(bytes: u64) -> String {
    // 1023.9 MiB would be printed as `1024 MiB`: what rounds up to the next unit belongs there.
    let unit = Unit::of(bytes.saturating_add(bytes / 2048));
    if unit.bytes == 1 {
        return format!("{bytes} B");
    }
    let amount = bytes as f64 / unit.bytes as f64;
    match amount {
        ..9.995 => format!("{amount:.2} {}", unit.name),
        ..99.95 => format!("{amount:.1} {}", unit.name),
        _ => format!("{amount:.0} {}", unit.name),
    }
}

/// An amount that may be below zero, such as the kernel's own account of what KSM brings.
pub fn human_signed_bytes(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{}", human_bytes(bytes.unsigned_abs()))
}

/// A time as `2026-11-30 19:05:09Z`, from milliseconds since the epoch.
pub fn utc(at_ms: u64) -> String {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut days, seconds) = (at_ms / 86_400_000, at_ms / 1000 % 86400);
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}Z", days + 1)
}

/// All units that are shown, from small to large.
pub const UNITS: [Unit; 6] = [
    Unit { name: "B", bytes: 1 },
    Unit { name: "KiB", bytes: 1 << 10 },
    Unit { name: "MiB", bytes: 1 << 20 },
    Unit { name: "GiB", bytes: 1 << 30 },
    Unit { name: "TiB", bytes: 1 << 40 },
    Unit { name: "PiB", bytes: 1 << 50 },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_and_a_unit() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (384 << 20, "384 MiB"),
            (7680 << 20, "7.50 GiB"),
            ((1 << 30) - 1, "1.00 GiB"),
            (10 * (1 << 20) - 1, "10.0 MiB"),
            (100 * (1 << 20) - 1, "100 MiB"),
            (1 << 40, "1.00 TiB"),
            (u64::MAX, "16384 PiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(human_bytes(bytes), text, "{bytes}");
        }
        assert_eq!(human_signed_bytes(-(3 << 20)), "-3.00 MiB");
        assert_eq!(human_signed_bytes(3 << 20), "3.00 MiB");
    }

    #[test]
    fn times_are_those_that_date_gives() {
        // `date -u -d @SECONDS`
        for (seconds, time) in [
            (0, "1970-01-01 00:00:00Z"),
            (68_169_599, "1972-02-28 23:59:59Z"),
            (68_169_600, "1972-02-29 00:00:00Z"),
            (951_868_800, "2000-03-01 00:00:00Z"),
            (1_735_689_599, "2024-12-31 23:59:59Z"),
            (1_796_065_509, "2026-11-30 19:05:09Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(utc(seconds * 1000 + 999), time);
        }
    }
}
