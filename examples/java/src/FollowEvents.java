import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Prints events of jobs: {@code FollowEvents BOOTSTRAP CLUSTER SCHEMAS GROUP [COUNT]}; stops after COUNT of them.
 *
 * <p>Started again with the same group it goes on where it stopped; several of one group share the partitions.
 */
public final class FollowEvents {
    public static void main(String[] arguments) throws Exception {
        if (arguments.length < 4) {
            System.err.println("usage: FollowEvents BOOTSTRAP CLUSTER SCHEMAS GROUP [COUNT]");
            System.exit(2);
        }
        Records records = new Records(Path.of(arguments[2]));
        long left = arguments.length > 4 ? Long.parseLong(arguments[4]) : Long.MAX_VALUE;

        Properties settings = Connection.settings(arguments[0]);
        settings.put("group.id", arguments[3]);
        // What is not committed did not happen.
        settings.put("isolation.level", "read_committed");
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(arguments[1] + ".events"));
            while (left > 0) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    // Records of the whole partition (BatchClosed and the like) have no key.
                    var event = record.key() == null ? null : records.decode(record.value()).orElse(null);
                    if (event != null && left-- > 0) {
                        print(record, event);
                    }
                }
                // After the work, so that a crash repeats events and never loses one.
                consumer.commitSync();
            }
        }
    }

    private static void print(ConsumerRecord<String, byte[]> record, GenericRecord event) {
        System.out.println(record.partition() + "@" + record.offset() + " " + record.key() + " " + event.getSchema().getName());
    }
}
