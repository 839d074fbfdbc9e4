import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Submits a job: {@code SubmitJob BOOTSTRAP CLUSTER SCHEMAS QUEUE JOB_ID COMMAND...} */
public final class SubmitJob {
    public static void main(String[] arguments) throws Exception {
        if (arguments.length < 6) {
            System.err.println("usage: SubmitJob BOOTSTRAP CLUSTER SCHEMAS QUEUE JOB_ID COMMAND...");
            System.exit(2);
        }
        String cluster = arguments[1];
        String queue = arguments[3];
        String jobId = arguments[4];
        List<String> command = Arrays.asList(arguments).subList(5, arguments.length);
        Records records = new Records(Path.of(arguments[2]));

        Schema submit = records.schema("ftjm.commands.SubmitJob");
        // A builder fills in the defaults of what is not set.
        Schema specification = submit.getField("spec").schema();
        var spec = new GenericRecordBuilder(specification).set("command", command).build();
        var job = new GenericRecordBuilder(submit).set("queue", queue).set("job_id", jobId).set("spec", spec).build();

        Properties settings = Connection.settings(arguments[0]);
        settings.put("acks", "all");
        settings.put("enable.idempotence", "true");
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer())) {
            // The key is the queue, and the partition is chosen by the client's own default.
            var record = new ProducerRecord<>(cluster + ".commands", queue, records.encode(job));
            var where = producer.send(record).get(30, TimeUnit.SECONDS);
            System.out.println(queue + "/" + jobId + " is at " + where.topic() + "-" + where.partition() + "@" + where.offset());
        }
    }
}
