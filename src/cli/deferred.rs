//! A command's arguments, made only when that command is the one that was typed.

use std::ops::Deref;

use clap::builder::Resettable;
use clap::error::Error;
use clap::{ArgMatches, Args, Command, FromArgMatches, Id, Subcommand};

/// What a command takes. To describe the arguments of all commands takes longer than to ask libvirt for a list, and
/// is wasted for all of them but one.
#[derive(Debug)]
pub struct Deferred<T>(pub T);

impl<T> Deref for Deferred<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: FromArgMatches> FromArgMatches for Deferred<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }

    fn update_from_arg_matches_mut(&mut self, matches: &mut ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches_mut(matches)
    }
}

impl<T: Args> Args for Deferred<T> {
    fn augment_args(command: Command) -> Command {
        command.defer(|it| describe(it, T::augment_args))
    }

    fn augment_args_for_update(command: Command) -> Command {
        command.defer(|it| describe(it, T::augment_args_for_update))
    }
}

impl<T: Subcommand> Subcommand for Deferred<T> {
    fn augment_subcommands(command: Command) -> Command {
        command.defer(|it| describe(it, T::augment_subcommands))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        command.defer(|it| describe(it, T::augment_subcommands_for_update))
    }

    fn has_subcommand(name: &str) -> bool {
        T::has_subcommand(name)
    }
}

/// Describes the arguments of a command, but not what it is for: that is said where it is listed, and the arguments'
/// own type has only its name to say. What the command has already, since every command has it, is shown last.
fn describe(command: Command, augment: fn(Command) -> Command) -> Command {
    let (about, long) = (command.get_about().cloned(), command.get_long_about().cloned());
    let global: Vec<Id> = command.get_arguments().map(|it| it.get_id().clone()).collect();
    let command =
        augment(command).about(Resettable::from(about)).long_about(Resettable::from(long));
    // An argument that is changed, if only in name, goes to the end.
    global.into_iter().fold(command, |command, id| command.mut_arg(id, |it| it))
}
