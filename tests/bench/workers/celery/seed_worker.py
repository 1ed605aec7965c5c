"""The same work as a Celery task: acks late, no deduplication."""
import os

from celery import Celery

app = Celery("seed_worker", broker=os.environ["RABBITMQ_URL"])
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=50,
                task_default_queue=os.environ["QUEUE"], worker_enable_remote_control=False,
                worker_send_task_events=False)


@app.task(name="ticket.created")
def ticket_created(ticket):
    return f"ticket created {ticket['id']} {ticket['title']} {ticket['ownerId']}"
