//! virtlab
fn main() {}
