# Turns each page into a very small HTML file: sh render.sh FROM TO
set -e
mkdir -p "$2"
for page in "$1"/*.txt; do
  name=$(basename "$page" .txt)
  { echo "<h1>$(head -n 1 "$page")</h1>"; tail -n +2 "$page" | sed 's|^\(..*\)$|<p>\1</p>|'; } > "$2/$name.html"
done
