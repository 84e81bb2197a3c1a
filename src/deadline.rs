//! The one way to wait for something that has to be looked at again and again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// A moment after which nothing is waited for any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The moment that is so long from now.
    pub(crate) fn after(patience: Duration) -> Self {
        Self(Instant::now() + patience)
    }

    /// Looks at least once, and then again after each `pause`, until `look` finds something; `None` if it did not in
    /// time.
    pub(crate) fn wait_for<T>(
        self,
        pause: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        loop {
            if let Some(found) = look()? {
                return Ok(Some(found));
            }
            let left = self.0.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(pause.min(left));
        }
    }

    /// Does `work` at least once, and then again after each `pause` as long as it fails with an error that `passes` by
    /// itself; the last error if it does not pass in time.
    pub(crate) fn retry<T, E>(
        self,
        pause: Duration,
        passes: impl Fn(&E) -> bool,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        loop {
            let left = self.0.saturating_duration_since(Instant::now());
            match work() {
                Err(error) if passes(&error) && !left.is_zero() => thread::sleep(pause.min(left)),
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_again_until_it_finds_something_or_the_time_is_over() {
        let mut looks = 0;
        let mut third = || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        };
        let long = Deadline::after(Duration::from_secs(20));
        assert_eq!(long.wait_for(Duration::from_millis(1), &mut third).unwrap(), Some(3));
        let over = Deadline::after(Duration::ZERO);
        let mut looks = 0;
        let never = || {
            looks += 1;
            Ok(None::<()>)
        };
        assert_eq!(over.wait_for(Duration::from_secs(20), never).unwrap(), None);
        assert_eq!(looks, 1);
    }

    #[test]
    fn an_error_that_passes_is_waited_for_and_no_other() {
        let long = Deadline::after(Duration::from_secs(20));
        let mut errors = vec![2, 1, 1].into_iter();
        let work = || errors.next_back().map_or(Ok(()), Err::<(), i32>);
        let pause = Duration::from_millis(1);
        assert_eq!(long.retry(pause, |error| *error == 1, work), Err(2));
        let over = Deadline::after(Duration::ZERO);
        assert_eq!(over.retry(pause, |_| true, || Err::<(), i32>(1)), Err(1));
    }
}
