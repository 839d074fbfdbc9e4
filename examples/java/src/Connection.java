import java.util.Properties;

/** How to reach Kafka. The Kafka of `ftjm up` asks for a password; that of a production cluster may need other settings. */
final class Connection {
    private Connection() {}

    static Properties settings(String bootstrap) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        String password = System.getenv("KAFKA_PASSWORD");
        if (password != null) {
            settings.put("security.protocol", "SASL_PLAINTEXT");
            settings.put("sasl.mechanism", "PLAIN");
            String module = "org.apache.kafka.common.security.plain.PlainLoginModule";
            settings.put("sasl.jaas.config", module + " required username=\"ftjm\" password=\"" + password + "\";");
        }
        return settings;
    }
}
