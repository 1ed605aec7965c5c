import time
import test_outbox as t

def test_hand1(site):
    began = time.time()
    t.relay_through_broker_deaths(site, 100000, 5)
    print("\nHAND1", round(time.time()-began), "s; outbox rows, sent:", site.rows("select count(*), count(sent_at) from outbox"),
          "ledger rows, distinct ids:", site.rows("select count(*), count(distinct event_id) from processed_events"),
          "duplicates skipped:", site.workers[-1].log.text().count("already processed"))

def test_hand2(site):
    began = time.time()
    t.killed_again_and_again(site, 40, 4000)
    print("\nHAND2", round(time.time()-began), "s; runs by type, distinct:", site.rows("select type, count(*), count(distinct event_id) from runs group by 1 order by 1"),
          "outbox rows, sent:", site.rows("select count(*), count(sent_at) from outbox"))
