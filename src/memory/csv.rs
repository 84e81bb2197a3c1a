//! A curve as CSV, written and read.
//!
//! The subset of [RFC 4180](https://www.rfc-editor.org/rfc/rfc4180) that numbers need: a header,
//! commas, fields that may be quoted, either line ending, no line breaks within a field. A column's
//! unit is in its name; reading also takes `_kib`, `_mib` and `_gib`, so that numbers typed off a
//! chart need no arithmetic. Columns may come in any order, unknown ones are passed over.

use thiserror::Error;

use crate::memory::{Curve, Sample};
use crate::units::UNITS;

impl Curve {
    /// The curve as CSV, amounts in bytes; what was not measured is an empty field.
    pub fn to_csv(&self) -> String {
        let mut text = COLUMNS.join(",") + "\n";
        for sample in self.samples() {
            let optional =
                |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
            let fields = [
                sample.nodes.to_string(),
                sample.without_ksm_bytes.to_string(),
                sample.with_ksm_bytes.to_string(),
                optional(sample.merged_bytes),
                optional(sample.proportional_bytes),
                optional(sample.full_scans),
            ];
            text += &fields.join(",");
            text.push('\n');
        }
        text
    }

    /// Reads a curve.
    ///
    /// # Errors
    /// If a needed column is missing or a field is not a number; the message has the line.
    pub fn from_csv(text: &str) -> Result<Self, CsvError> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, header) = lines.next().ok_or(CsvError::MissingColumn { column: COLUMNS[0] })?;
        let header = fields(header).ok_or(CsvError::Quotes { line: 1 })?;
        let columns = COLUMNS.map(|column| find(&header, column));
        for (column, found) in COLUMNS.into_iter().zip(&columns).take(NEEDED) {
            if found.is_none() {
                return Err(CsvError::MissingColumn { column });
            }
        }
        let mut curve = Self::default();
        for (index, line) in lines {
            let line_number = index + 1;
            let row = fields(line).ok_or(CsvError::Quotes { line: line_number })?;
            let mut numbers = [None; COLUMNS.len()];
            for (number, column) in numbers.iter_mut().zip(&columns) {
                if let Some(Column { index, factor }) = *column {
                    *number = field(&row, index, factor, line_number)?;
                }
            }
            let [nodes, without, with, merged_bytes, proportional_bytes, full_scans] = numbers;
            let needed = |number: Option<u64>| {
                number.ok_or(CsvError::NotANumber { line: line_number, value: String::new() })
            };
            let nodes = needed(nodes)?;
            curve.add(Sample {
                nodes: u32::try_from(nodes).map_err(|_| CsvError::NotANumber {
                    line: line_number,
                    value: nodes.to_string(),
                })?,
                without_ksm_bytes: needed(without)?,
                with_ksm_bytes: needed(with)?,
                merged_bytes,
                proportional_bytes,
                full_scans,
            });
        }
        Ok(curve)
    }
}

/// Why a file is not the CSV of a curve.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum CsvError {
    /// The header lacks a column.
    #[error("line 1: there is no column `{column}`")]
    MissingColumn {
        /// Its name.
        column: &'static str,
    },
    /// A field is not a whole number, or too large a one.
    #[error("line {line}: `{value}` is not a whole number that fits")]
    NotANumber {
        /// The line, from 1.
        line: usize,
        /// The field.
        value: String,
    },
    /// A quotation mark is not closed, or something follows it.
    #[error("line {line}: the quotation marks do not match")]
    Quotes {
        /// The line, from 1.
        line: usize,
    },
}

/// Where a column is, and how many bytes one of it has.
#[derive(Clone, Copy)]
struct Column {
    index: usize,
    factor: u64,
}

/// The place of the column `name`, or of the same one in another unit.
fn find(header: &[String], name: &str) -> Option<Column> {
    let place = |wanted: &str| header.iter().position(|head| head.trim() == wanted);
    if let Some(index) = place(name) {
        return Some(Column { index, factor: 1 });
    }
    let stem = name.strip_suffix("_bytes")?;
    UNITS.iter().find_map(|unit| {
        let index = place(&format!("{stem}_{}", unit.name.to_lowercase()))?;
        Some(Column { index, factor: unit.bytes })
    })
}

fn field(row: &[String], index: usize, factor: u64, line: usize) -> Result<Option<u64>, CsvError> {
    let value = row.get(index).map_or("", |value| value.trim());
    if value.is_empty() {
        return Ok(None);
    }
    let number = value.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.map(Some).ok_or_else(|| CsvError::NotANumber { line, value: value.to_owned() })
}

/// The fields of a line, without their quotation marks.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
            Some(quoted) => unquoted(quoted)?,
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(fields),
        }
    }
}

/// The text up to the closing mark (two marks stand for one), and what follows it.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"')?;
        field += &rest[..end];
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, rest)),
        }
    }
}

const COLUMNS: [&str; 6] = [
    "nodes",
    "without_ksm_bytes",
    "with_ksm_bytes",
    "merged_bytes",
    "proportional_bytes",
    "full_scans",
];

/// So many of the columns cannot be left out.
const NEEDED: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Curve {
        Curve::new([
            Sample {
                nodes: 1,
                without_ksm_bytes: 402_653_184,
                with_ksm_bytes: 402_653_184,
                merged_bytes: Some(0),
                proportional_bytes: Some(398_000_128),
                full_scans: Some(3),
            },
            Sample { nodes: 2, without_ksm_bytes: u64::MAX, ..Sample::default() },
        ])
    }

    #[test]
    fn writes_a_header_with_units_and_empty_fields_for_the_unknown() {
        insta::assert_snapshot!(curve().to_csv(), @"
        nodes,without_ksm_bytes,with_ksm_bytes,merged_bytes,proportional_bytes,full_scans
        1,402653184,402653184,0,398000128,3
        2,18446744073709551615,0,,,
        ");
    }

    #[test]
    fn what_is_written_is_read_again() {
        for curve in [curve(), Curve::default()] {
            assert_eq!(Curve::from_csv(&curve.to_csv()), Ok(curve));
        }
    }

    #[test]
    fn reads_other_units_orders_quotes_and_line_ends() {
        let text = "\"with_ksm_mib\",comment,nodes,without_ksm_gib\r\n\
                    549,\"a \"\"b\"\", c\",2,1\r\n\r\n";
        let expected = Sample {
            nodes: 2,
            without_ksm_bytes: 1 << 30,
            with_ksm_bytes: 549 << 20,
            ..Sample::default()
        };
        assert_eq!(Curve::from_csv(text), Ok(Curve::new([expected])));
    }

    #[test]
    fn the_message_names_the_line() {
        let header = "nodes,without_ksm_bytes,with_ksm_bytes";
        let table = [
            ("", "line 1: there is no column `nodes`"),
            ("nodes,with_ksm_bytes\n1,2", "line 1: there is no column `without_ksm_bytes`"),
            (&format!("{header}\n1,2,x"), "line 2: `x` is not a whole number that fits"),
            (&format!("{header}\n1,2,3\n2,3"), "line 3: `` is not a whole number that fits"),
            (&format!("{header}\n1,2,-3"), "line 2: `-3` is not a whole number that fits"),
            (
                "nodes,without_ksm_gib,with_ksm_gib\n1,99999999999,3",
                "line 2: `99999999999` is not a whole number that fits",
            ),
            (&format!("{header}\n\"1,2,3"), "line 2: the quotation marks do not match"),
            (&format!("{header}\n\"1\"x,2,3"), "line 2: the quotation marks do not match"),
        ];
        for (text, message) in table {
            assert_eq!(Curve::from_csv(text).unwrap_err().to_string(), message);
        }
    }
}
