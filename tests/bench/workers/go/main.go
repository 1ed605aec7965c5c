// The same worker in Go: look the message up, handle it, mark it, ack it, one goroutine for each
// message in hand. Prints the seconds from the first delivery to the last ack.
package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	_ "github.com/lib/pq"
	amqp "github.com/rabbitmq/amqp091-go"
)

type event struct {
	Event   string
	Payload struct{ ID, Title, OwnerID string }
}

var db *sql.DB

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func number(name string) int {
	value, err := strconv.Atoi(os.Getenv(name))
	check(err)
	return value
}

func take(message amqp.Delivery) string {
	var found int
	var ticket event
	row := db.QueryRow("SELECT 1 FROM processed_events WHERE event_id = $1 AND event_type = $2 LIMIT 1",
		message.MessageId, "ticket.created")
	if err := row.Scan(&found); err == nil {
		check(message.Ack(false))
		return ""
	} else if err != sql.ErrNoRows {
		check(err)
	}
	check(json.Unmarshal(message.Body, &ticket))
	line := fmt.Sprintf("ticket created %s %s %s", ticket.Payload.ID, ticket.Payload.Title,
		ticket.Payload.OwnerID)
	_, err := db.Exec("INSERT INTO processed_events (event_id, event_type, processor_name, processed_at) "+
		"VALUES ($1, $2, 'worker', NOW()) ON CONFLICT (event_id) DO NOTHING",
		message.MessageId, "ticket.created")
	check(err)
	check(message.Ack(false))
	return line
}

func main() {
	var err error
	count, prefetch := number("COUNT"), number("PREFETCH")
	db, err = sql.Open("postgres", os.Getenv("DATABASE_URL"))
	check(err)
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	check(db.Ping())
	connection, err := amqp.Dial(os.Getenv("RABBITMQ_URL"))
	check(err)
	channel, err := connection.Channel()
	check(err)
	check(channel.Qos(prefetch, 0, false))
	deliveries, err := channel.Consume(os.Getenv("QUEUE"), "", false, false, false, false, nil)
	check(err)

	var group sync.WaitGroup
	var first time.Time
	slots := make(chan struct{}, prefetch)
	for i := 0; i < count; i++ {
		message := <-deliveries
		if i == 0 {
			first = time.Now()
		}
		slots <- struct{}{}
		group.Add(1)
		go func() {
			defer group.Done()
			take(message)
			<-slots
		}()
	}
	group.Wait()
	fmt.Printf("%.6f\n", time.Since(first).Seconds())
	// A quorum queue learns of acks a moment later than the broker: one whose channel closes
	// before that takes their messages back.
	time.Sleep(500 * time.Millisecond)
	check(channel.Close())
	check(connection.Close())
}
