//! What a work order lists and nobody has presented here.

use super::*;
use crate::batch::{BatchId, Terms, pieces};
use crate::device::serial::SerialPattern;
use crate::journal::Opened as OpenedBatch;
use crate::line::Deliver;

const BATCH: &str = "WO-7";

/// An order of that list.
fn order(bench: &Bench, serials: Vec<SerialNumber>) {
    let (mut book, batch) = (bench.book.lock().unwrap(), BatchId::parse(BATCH).unwrap());
    let (product, expected) = ("lamp".to_owned(), serials.len() as u64);
    let opening = StationEvent::BatchOpening { batch: batch.clone(), product: product.clone() };
    book.commit(None, What::Station(opening), None);
    let list = book.seq;
    for serials in pieces(serials) {
        book.commit(None, What::Station(StationEvent::BatchSerials { list, serials }), None);
    }
    let terms = Terms { batch, product, strict: true, fixtures: Vec::new(), expected };
    let opened = OpenedBatch { terms, list: Some(list), by: operator() };
    book.commit(None, What::Station(StationEvent::BatchOpened(Box::new(opened))), None);
}

pub(super) fn lamps(thing: &str) -> BTreeMap<String, Product> {
    let mut rules = plain_rules("lamp");
    rules.thing = Template::parse(thing).unwrap();
    let serial = SerialPattern::new("[A-Z0-9]+").unwrap();
    let product = Product { rules: Arc::new(rules), serial, deliver: Deliver::Fixture, labels: None };
    BTreeMap::from([("lamp".to_owned(), product)])
}

fn account() -> Arc<Account> {
    let made = |name: &str, station: Option<&str>| (name.to_owned(), station.map(str::to_owned));
    let others = vec![
        made("SN3", Some("L9")),
        made("SN4", None),
        made("SN5", Some(STATION)),
        made("SN6-of-another-order", Some("L9")),
    ];
    Arc::new(Account { others, ..Account::default() })
}

async fn looked(bench: &Bench, account: &Arc<Account>, thing: &str) -> Vec<Told> {
    let selection = Selection { batch: Some(BATCH.to_owned()), ..Selection::default() };
    let wish = Wish { selection, ..Wish::default() };
    told(bench.start_with(account, &[], lamps(thing), wish)).await
}

/// Few are asked for one by one, many by the lists; what is found is the same.
#[tokio::test]
async fn what_never_came_here_and_is_in_the_account_is_told_whoever_made_it() {
    let listed = |count: usize| {
        let more = (0..count).map(|it| serial(&format!("TH{it:06}")));
        let all: BTreeSet<_> =
            ["SN1", "SN2", "SN3", "SN4", "SN5", "SN7"].map(serial).into_iter().chain(more).collect();
        all.into_iter().collect::<Vec<_>>()
    };
    for (more, by_lists) in [(0, false), (1_500, true)] {
        let bench = Bench::of(plain_rules("lamp"), Some(BATCH));
        order(&bench, listed(more));
        let account = account();
        let heard = looked(&bench, &account, "{serial}").await;
        let mut found: Vec<_> = findings(&heard)
            .into_iter()
            .filter(|it| it.resource.starts_with("thing "))
            .map(|it| (it.serial.as_deref().unwrap(), it.class, it.held.as_str()))
            .collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("SN3", Kind::NotOurs, "station L9 has made it"),
                ("SN4", Kind::NotOurs, "a thing that does not bear the attribute linemint"),
                ("SN5", Kind::Extra, "a thing that bears this station's attribute"),
            ]
        );
        for it in findings(&heard).iter().filter(|it| it.resource.starts_with("thing ")) {
            assert_eq!(it.expected, "ordered in batch WO-7 and never presented here: nothing of it is there");
            assert!(!it.remedy.is_empty() && it.repair.is_none(), "{it:?}");
        }
        let Some(Told::Summary(summary)) = heard.last() else { unreachable!() };
        assert_eq!((summary.sought, summary.unsought), (4 + more as u64, 0));
        assert_eq!((summary.selected, summary.listed.is_some(), summary.is_clean()), (2, by_lists, false));
        let asked = account.thing_reads.load(Ordering::Relaxed);
        assert!(asked < 20, "{asked} single reads where the lists tell it");
    }
}

/// After the restore of an older journal the order's units made since are real: a repair of the batch leaves them. Where
/// all is selected they can be deleted, by whoever wants that.
#[tokio::test]
async fn what_this_station_made_of_an_order_is_deleted_only_where_all_is_selected() {
    let bench = Bench::of(plain_rules("lamp"), Some(BATCH));
    order(&bench, ["SN1", "SN2", "SN5"].map(serial).to_vec());
    let of = |batch: Option<&str>| Selection { batch: batch.map(str::to_owned), ..Selection::default() };
    for (selection, clears) in [(of(Some(BATCH)), false), (of(None), true)] {
        let wish = Wish { selection, ..Wish::default() };
        let heard = told(bench.start_with(&account(), &[], lamps("{serial}"), wish)).await;
        let all = findings(&heard);
        let it = all.iter().find(|it| it.serial.as_deref() == Some("SN5")).unwrap();
        assert_eq!(it.class, Kind::Extra);
        assert_eq!(matches!(it.repair, Some(Repair::Clear { .. })), clears, "{it:?}");
        assert_eq!(it.remedy.starts_with("present the unit: it is taken up"), !clears, "{it:?}");
    }
}

/// A fixture's word, and an extra that was deleted, bring a device into the journal and not into the order.
#[tokio::test]
async fn what_the_journal_knows_and_nobody_has_presented_is_looked_for_all_the_same() {
    let rules = plain_rules("lamp");
    let id = rules.id();
    let bench = Bench::of(rules, Some(BATCH));
    order(&bench, ["SN1", "SN2", "SN3", "SN4", "SN5"].map(serial).to_vec());
    {
        let mut book = bench.book.lock().unwrap();
        book.claimed(&serial("SN3"), id, None);
        book.claimed(&serial("SN4"), id, Some(BATCH));
        book.deleted(&serial("SN5"), id);
    }
    let heard = looked(&bench, &account(), "{serial}").await;
    let all = findings(&heard).into_iter().filter(|it| it.resource.starts_with("thing "));
    let mut found: Vec<_> = all.filter_map(|it| Some((it.serial.as_deref()?, it.class))).collect();
    found.sort_unstable();
    assert_eq!(found, [("SN3", Kind::NotOurs), ("SN4", Kind::NotOurs), ("SN5", Kind::Extra)]);
    let all = findings(&heard);
    let extra = all.iter().find(|it| it.class == Kind::Extra).unwrap();
    assert!(extra.remedy.starts_with("find out who made it again") && extra.repair.is_none(), "{extra:?}");
    let Some(Told::Summary(summary)) = heard.last() else { unreachable!() };
    assert_eq!((summary.selected, summary.sought), (3, 3));
}

#[tokio::test]
async fn an_order_of_which_nothing_came_is_looked_for_and_a_name_that_cannot_be_told_is_counted() {
    let bench = Bench::new();
    order(&bench, ["SN3", "SN8"].map(serial).to_vec());
    let heard = looked(&bench, &account(), "{serial}").await;
    let classes: Vec<_> = findings(&heard).iter().map(|it| it.class).collect();
    assert_eq!(classes, [Kind::NotOurs]);
    let heard = looked(&bench, &account(), "{serial}-{mac}").await;
    let Some(Told::Summary(summary)) = heard.last() else { unreachable!() };
    assert_eq!((summary.sought, summary.unsought, summary.found()), (0, 2, 0));
    let batched = Arc::new(Account { others: vec![("WO-7.SN8".to_owned(), None)], ..Account::default() });
    let heard = looked(&bench, &batched, "{batch}.{serial}").await;
    assert_eq!(findings(&heard)[0].serial.as_deref(), Some("SN8"));
}
