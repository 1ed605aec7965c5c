"""The same work as a Celery task: acks late, no deduplication."""
import os

from celery import Celery
from celery.signals import worker_process_shutdown

app = Celery("seed_worker", broker=os.environ["RABBITMQ_URL"])
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=50,
                task_default_queue=os.environ["QUEUE"], worker_enable_remote_control=False,
                worker_send_task_events=False)
done = 0


@app.task(name="ticket.created")
def ticket_created(ticket):
    global done
    done += 1
    return f"ticket created {ticket['id']} {ticket['title']} {ticket['ownerId']}"


@worker_process_shutdown.connect
def tell(**_):
    with open(os.environ["COUNTS"], "a", encoding="ascii") as file:
        file.write(f"{done}\n")
