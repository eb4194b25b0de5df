//! Guards that a test can take out, to show that the simulation finds it.
//!
//! `sabotaged!(Name)` stands where the guard is. Outside of tests it is `false`, so that nothing of it is
//! in the program; in a test it asks whether this thread has chosen that sabotage.

#[cfg(test)]
macro_rules! sabotaged {
    ($name:ident) => {
        $crate::sabotage::is_on($crate::sabotage::Sabotage::$name)
    };
}

#[cfg(not(test))]
macro_rules! sabotaged {
    ($name:ident) => {
        false
    };
}

pub(crate) use sabotaged;

#[cfg(test)]
pub(crate) use self::chosen::{Sabotage, is_on, with};

#[cfg(test)]
mod chosen {
    use std::cell::Cell;

    macro_rules! sabotages {
        ($($(#[$doc:meta])* $name:ident,)*) => {
            /// A guard that is taken out.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub(crate) enum Sabotage { $($(#[$doc])* $name,)* }

            impl Sabotage {
                /// Every one.
                pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];
            }
        };
    }

    sabotages! {
        /// A commit is told to be on disk without a sync.
        SyncSkipped,
        /// A restart acts on what it reads without syncing it first.
        ResumeUnsynced,
        /// A commit of which a crash has left the beginning is taken in.
        TornCommitTaken,
        /// `ack` goes out before the device is on disk.
        AckBeforeDurable,
        /// `pass` goes out before `passed` is on disk.
        PassBeforeDurable,
        /// AWS is called before what the call depends on is on disk.
        CallBeforeDurable,
        /// A private key is destroyed before `passed` is on disk.
        KeyDestroyedBeforeDurable,
        /// The call that registers a certificate does not wait for `issued`.
        CertificateUnjournaled,
        /// A label counts as written whatever came of it.
        LabelPresumed,
        /// A locker's token is another one each time.
        LockerTokenRandom,
        /// A policy that exists is taken for ours without being read.
        PolicyUnread,
        /// A thing that exists is taken for ours, whoever made it.
        ThingUncompared,
        /// A private key is destroyed when it has been offered.
        KeyDestroyedEarly,
        /// A certificate is said to be issued although its key was not stored.
        KeyUnstored,
        /// A key is said to be destroyed, but is not.
        KeyKept,
        /// The old certificate is retired before the new one is confirmed.
        OldRetiredEarly,
        /// `written` is taken whatever certificate it names.
        WrittenUncompared,
        /// A 2xx without content and request id is taken for AWS's.
        UnsignedTaken,
        /// An attaching whose answer was lost is taken as done.
        LostTaken,
        /// Certificates of an earlier life are left as they are.
        EarlierLifeIgnored,
        /// A list that does not show an attachment yet proves that it is lost.
        EmptyListTaken,
        /// A restart forgets devices for which something is left to do.
        PendingForgotten,
        /// What was presented before a fixture's reset is remembered after it.
        ResetIgnored,
        /// After a restart credentials go to whatever was in the nest, acknowledged or not.
        OfferedUnacknowledged,
        /// A serial may be in two places at once.
        TwoPlaces,
        /// A message with a wrong checksum is taken.
        ChecksumIgnored,
        /// A unit that contradicts what is known of its id is refused, and its fixture not asked.
        ContradictionFinal,
        /// Of what is attached to a thing only the first page is read.
        FirstPrincipalsOnly,
        /// AWS is asked for a certificate, and the intent is not recorded.
        IntentUnrecorded,
        /// A certificate that AWS has issued is made active before it is on disk.
        ActivatedUnrecorded,
        /// A certificate that is found is taken for the device's, whatever its key.
        KeyUncompared,
        /// Of the account's certificates only the first page is read.
        FirstPageOnly,
        /// Certificates that were made beside the device's own are left where they are.
        SpareKept,
        /// Nobody looks again when nothing can come any more of a call whose answer was lost.
        LastLookSkipped,
        /// A certificate that AWS has issued is retired like any other, and stays.
        ReplacedUndeleted,
        /// What a late call has attached again is not detached again.
        DetachedOnce,
        /// A delivered folder gets its name before what is in it is on disk.
        FolderNamedUnsynced,
        /// A folder counts as delivered before its name is on disk.
        FolderNameUnsynced,
        /// A device passes though its files could not be delivered.
        PassedUndelivered,
        /// A unit that is not on a strict list is taken.
        ListIgnored,
        /// A restart forgets which batches are open.
        BatchForgotten,
        /// An order is answered before it is on disk.
        AnsweredBeforeDurable,
    }

    thread_local! {
        static CHOSEN: Cell<Option<Sabotage>> = const { Cell::new(None) };
    }

    /// Whether this thread has chosen it.
    pub(crate) fn is_on(it: Sabotage) -> bool {
        CHOSEN.get() == Some(it)
    }

    /// Runs `body` with `chosen` in this thread.
    pub(crate) fn with<T>(chosen: Option<Sabotage>, body: impl FnOnce() -> T) -> T {
        struct Back(Option<Sabotage>);
        impl Drop for Back {
            fn drop(&mut self) {
                CHOSEN.set(self.0);
            }
        }
        let _back = Back(CHOSEN.replace(chosen));
        body()
    }
}
