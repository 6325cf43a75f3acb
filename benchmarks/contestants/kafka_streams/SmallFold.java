import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** The small fold (benchmarks/contestants/rule.py) in Kafka Streams: exactly once, RocksDB with a changelog. */
public final class SmallFold {
  private static final int SAMPLE_MS = 100;

  /** What of an event the fold looks at; -1 for an amount that is not there. */
  public static final class Event {
    public String event_id;
    public String borrower_id;
    public long at_ms;
    public long amount_minor = -1;
    public long principal_minor = -1;

    long amount() {
      return amount_minor >= 0 ? amount_minor : principal_minor >= 0 ? principal_minor : 1;
    }
  }

  /** One borrower's three windows, packed: of each the number of its entries, its sum, then moments and amounts. */
  private static final class Windows implements Processor<String, byte[], String, byte[]> {
    private static final Map<String, Integer> PLACES = Map.of("transactions", 0, "logins", 1, "repayments", 2);
    private static final int HEAD = 12;
    private static final int ENTRY = 16;

    private final ObjectReader reader;
    private final long[] lengthsMs;
    private final long thresholdMinor;
    private final LongAdder done;
    private ProcessorContext<String, byte[]> context;
    private KeyValueStore<String, byte[]> states;

    Windows(ObjectReader reader, long[] lengthsMs, long thresholdMinor, LongAdder done) {
      this.reader = reader;
      this.lengthsMs = lengthsMs;
      this.thresholdMinor = thresholdMinor;
      this.done = done;
    }

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
      this.context = context;
      states = context.getStateStore("windows");
    }

    @Override
    public void process(Record<String, byte[]> record) {
      Event event;
      try {
        event = reader.readValue(record.value());
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
      int place = PLACES.get(context.recordMetadata().orElseThrow().topic());
      byte[] before = states.get(record.key());
      byte[] after = moved(before == null ? new byte[3 * HEAD] : before, place, event.at_ms, event.amount());
      states.put(record.key(), after);
      if (event.amount() > thresholdMinor) {
        long sum = ByteBuffer.wrap(after).getLong(start(after, place) + 4);
        String warning = "{\"borrower_id\":\"" + event.borrower_id + "\",\"event_id\":\"" + event.event_id
            + "\",\"amount_minor\":" + event.amount() + ",\"window_minor\":" + sum + "}";
        context.forward(record.withValue(warning.getBytes(StandardCharsets.UTF_8)));
      }
      done.increment();
    }

    /** The state with one entry more in a window, and without those that have left it. */
    private byte[] moved(byte[] state, int place, long atMs, long amount) {
      ByteBuffer old = ByteBuffer.wrap(state);
      int start = start(state, place);
      int count = old.getInt(start);
      int end = start + HEAD + count * ENTRY;
      long sum = old.getLong(start + 4) + amount;
      int from = start + HEAD;
      while (from < end && old.getLong(from) < atMs - lengthsMs[place]) {
        sum -= old.getLong(from + 8);
        from += ENTRY;
      }
      ByteBuffer moved = ByteBuffer.allocate(state.length - (from - start - HEAD) + ENTRY);
      moved.put(state, 0, start).putInt((end - from) / ENTRY + 1).putLong(sum).put(state, from, end - from);
      moved.putLong(atMs).putLong(amount).put(state, end, state.length - end);
      return moved.array();
    }

    private static int start(byte[] state, int place) {
      ByteBuffer packed = ByteBuffer.wrap(state);
      int start = 0;
      for (int window = 0; window < place; window++) {
        start += HEAD + packed.getInt(start) * ENTRY;
      }
      return start;
    }
  }

  private static Topology topology(JsonNode setup, LongAdder done) {
    ObjectReader reader = new ObjectMapper().disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
        .readerFor(Event.class);
    String[] topics = {"transactions", "logins", "repayments"};
    long[] lengthsMs = new long[topics.length];
    for (int place = 0; place < topics.length; place++) {
      lengthsMs[place] = setup.get("windows_ms").get(topics[place]).asLong();
    }
    long thresholdMinor = setup.get("threshold_minor").asLong();
    Topology topology = new Topology();
    topology.addSource("events", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), topics);
    topology.addProcessor("fold", () -> new Windows(reader, lengthsMs, thresholdMinor, done), "events");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("windows"), Serdes.String(), Serdes.ByteArray())
            .withCachingEnabled(),
        "fold");
    topology.addSink(
        "warnings",
        setup.get("output").asText(),
        Serdes.String().serializer(),
        Serdes.ByteArray().serializer(),
        "fold");
    return topology;
  }

  public static void main(String[] arguments) throws Exception {
    JsonNode setup = new ObjectMapper().readTree(arguments[0]);
    Properties settings = new Properties();
    setup.get("settings").properties().forEach(entry -> settings.put(entry.getKey(), entry.getValue().asText()));
    LongAdder done = new LongAdder();
    KafkaStreams streams = new KafkaStreams(topology(setup, done), settings);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
    streams.setUncaughtExceptionHandler(error -> {
      error.printStackTrace();
      Runtime.getRuntime().halt(1);
      return null;
    });
    streams.start();
    long events = setup.get("events").asLong();
    long told = 0;
    while (told < events) {
      Thread.sleep(SAMPLE_MS);
      long reached = done.sum();
      if (reached > told) {
        told = reached;
        System.out.println("{\"at_s\":" + System.currentTimeMillis() / 1000.0 + ",\"events\":" + told + "}");
      }
    }
    System.exit(0);
  }
}
